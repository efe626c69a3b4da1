"""A run in CI is not green when something was not tried."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

def test_one():
    pass

def test_two():
    pytest.skip("{reason}")
"""


def run(folder: Path, *options: str, tests: str, ci: str = "true") -> tuple[int, str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(tests)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.skips", *options, "test_it.py"],
        cwd=folder,
        env={**kept, "CI": ci, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_reason_that_is_not_listed_fails_the_run(tmp_path: Path) -> None:
    status, shown = run(tmp_path, tests=TESTS.format(reason="no time"))

    assert status == 1
    assert "1 passed, 1 skipped" in shown
    assert "test_it.py::test_two: no time" in shown


def test_so_does_a_module_that_is_left_out_as_a_whole(tmp_path: Path) -> None:
    status, shown = run(tmp_path, tests="import pytest\npytest.importorskip('not_there')")

    assert status == 1
    assert "test_it.py: could not import 'not_there'" in shown


def test_it_is_noticed_in_other_processes(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    status, shown = run(tmp_path, "-n2", tests=TESTS.format(reason="no time"))

    assert status == 1
    assert "test_it.py::test_two: no time" in shown


def test_a_reason_that_is_listed_does_not(tmp_path: Path) -> None:
    status, _ = run(tmp_path, tests=TESTS.format(reason="tried with the current client"))

    assert status == 0


def test_outside_ci_any_reason_will_do(tmp_path: Path) -> None:
    status, _ = run(tmp_path, tests=TESTS.format(reason="no time"), ci="")

    assert status == 0
