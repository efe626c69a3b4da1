"""How the tests are spread over processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.side_by_side import CALM, SPLIT, pytest_cmdline_main, unit

TESTS = Path(__file__).parent
NICENESS_MAX = 19  # a process that has it already cannot be made nicer

WRITES = """
import json, os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_it(number):
    told = {"worker": os.environ["PYTEST_XDIST_WORKER"], "niceness": os.nice(0)}
    pathlib.Path(os.environ["TOLD"], f"{pathlib.Path(__file__).stem}-{number}").write_text(
        json.dumps(told)
    )
"""


def chosen(monkeypatch: pytest.MonkeyPatch, *args: str, **options: object) -> int | None:
    """In how many processes a command is run."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    given: dict[str, object] = {
        "numprocesses": None,
        "tx": [],
        "usepdb": False,
        "trace": False,
        "capture": "fd",
    }
    option = SimpleNamespace(**{**given, "collectonly": False, **options})
    pytest_cmdline_main(SimpleNamespace(option=option, args=list(args)))  # type: ignore[arg-type]
    chosen: int | None = option.numprocesses
    return chosen


def test_the_plain_command_uses_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (chosen(monkeypatch, "tests") or 0) >= 8
    assert (chosen(monkeypatch, "tests/end_to_end") or 0) >= 8


def test_what_is_looked_at_closely_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, "tests/test_cli.py") is None
    assert chosen(monkeypatch, "tests/test_cli.py::test_help") is None
    assert chosen(monkeypatch, "tests", usepdb=True) is None
    assert chosen(monkeypatch, "tests", capture="no") is None


@pytest.mark.parametrize("number", [0, 3])
def test_a_number_that_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    assert chosen(monkeypatch, "tests", numprocesses=number) == number


def test_tests_of_a_module_stay_together_unless_it_is_split() -> None:
    assert unit("tests/chat/test_relay.py::test_a[x]") == unit("tests/chat/test_relay.py::test_b")
    stt = "tests/end_to_end/test_stt.py::test_no_word"
    assert unit(f"{stt}[node-agents-1.9.0-drop]") != unit(f"{stt}[livekit-agents-1.8.9-drop]")
    chat = "tests/end_to_end/test_chat.py::"
    assert unit(f"{chat}test_a[node-agents-1.9.0-x]") == unit(f"{chat}test_b[node-agents-1.9.0]")


@pytest.mark.parametrize("path", [*CALM, *SPLIT])
def test_a_module_that_is_named_exists(path: str) -> None:
    assert (TESTS / path).is_file()


def test_calm_tests_run_in_one_process_with_precedence(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (tmp_path / "end_to_end").mkdir()
    (tmp_path / "told").mkdir()
    calm = [tmp_path / path for path in CALM]
    for path in (*calm, *(tmp_path / f"test_{letter}.py" for letter in "abcdef")):
        path.write_text(WRITES)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = os.pathsep.join([str(TESTS.parent), *sys.path])

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.side_by_side", "-n3"],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": paths, "TOLD": str(tmp_path / "told")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    told = {path.name: json.loads(path.read_text()) for path in (tmp_path / "told").iterdir()}
    assert len(told) == 4 * (len(calm) + 6)
    calm_ones = [told[f"{path.stem}-{number}"] for path in calm for number in range(4)]
    assert len({one["worker"] for one in calm_ones}) == 1
    rest = [one for one in told.values() if one not in calm_ones]
    calmest, others = max(one["niceness"] for one in calm_ones), [one["niceness"] for one in rest]
    assert calmest < min(others) or calmest == NICENESS_MAX
