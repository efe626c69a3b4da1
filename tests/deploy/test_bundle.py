"""deploy/bundle: what it made installs where there is no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__

BUNDLE = Path(__file__).parents[2] / "deploy/bundle"
TIMEOUT_S = 900
NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": "/dev/null"}


def cut_off() -> list[str]:
    """A prefix that leaves a command without a network, where that is allowed here."""
    command = ["unshare", "--net"]
    if shutil.which(command[0]) is None:
        return []
    return [] if subprocess.run([*command, "true"], capture_output=True).returncode else command


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
    environment = {
        **kept,
        "PATH": "/usr/bin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "PYTHON": sys.executable,
        **variables,
    }
    return subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "parley"
    done = run(BUNDLE, "make", folder, "--no-image")
    assert done.returncode == 0, done.stdout + done.stderr
    assert hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest() in done.stdout
    return folder


@pytest.mark.slow
def test_what_was_made_installs_without_a_network(made: Path, tmp_path: Path) -> None:
    done = run(*cut_off(), made / "bundle", "install", tmp_path / "parley", **NOWHERE)

    assert done.returncode == 0, done.stdout + done.stderr
    said = run(tmp_path / "parley/bin/gateway", "--version")
    assert said.stdout.split() == ["parley-gateway", __version__]
    checked = run(
        tmp_path / "parley/bin/gateway",
        "check",
        LIVEKIT_API_KEY="APItest",
        LIVEKIT_API_SECRET="s" * 40,
    )
    assert "ready to serve" in checked.stdout


@pytest.mark.slow
def test_a_bundle_that_was_changed_on_the_way_is_refused(made: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(made, changed)
    wheel = next((changed / "wheels").glob("parley_gateway-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"x")

    done = run(changed / "bundle", "install", tmp_path / "parley", **NOWHERE)

    assert done.returncode != 0
    assert wheel.name in done.stdout
    assert not (tmp_path / "parley").exists()


@pytest.mark.slow
def test_wheels_for_another_platform_are_refused_in_words(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(made, other)
    (other / "platform").write_text("3 9 Plan9 vax\n")
    sums = (other / "SHA256SUMS").read_text().splitlines(keepends=True)
    (other / "SHA256SUMS").write_text("".join(one for one in sums if "platform" not in one))

    done = run(other / "bundle", "install", tmp_path / "parley", **NOWHERE)

    assert done.returncode == 1
    assert "Plan9" in done.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["make"], ["install"], ["make", "x", "--what"], ["install", "a", "b"]]
)
def test_a_call_that_is_not_understood_says_how_to_call_it(
    arguments: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [str(BUNDLE), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "deploy/bundle make FOLDER" in done.stderr
    assert "bundle install ENVIRONMENT" in done.stderr


def test_the_checkout_itself_is_no_bundle(tmp_path: Path) -> None:
    done = run(BUNDLE, "install", tmp_path / "parley")

    assert done.returncode == 1
    assert "is no bundle" in done.stderr


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    done = run(BUNDLE, "make", tmp_path)

    assert done.returncode == 1
    assert "not empty" in done.stderr
