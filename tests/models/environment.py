"""The environment in which the tests of `models` run: PyTorch, SciPy and their like, pinned."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import environments

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
# Options of `pip install` and what is installed: hashes are checked where builds share them.
STEPS = (
    (("--no-deps", "--require-hashes"), MODELS / "requirements.txt"),
    (("--no-deps", "--require-hashes"), MODELS / "requirements-baselines.txt"),
    ((), MODELS / "requirements-torch.txt"),
)
DRIVER = "test_in_their_own_environment.py"
"""The test that stands for all tests of models where PyTorch is missing."""
# In place of those in pyproject.toml: one process, whatever the caller has.
OPTIONS = ("--override-ini", "addopts=--import-mode=importlib --strict-markers -ra")


def folder() -> Path:
    """Named for the hash of the requirements and the version of Python."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for _, requirements in STEPS:
        digest.update(requirements.read_bytes())
    return environments.cache() / f"models-{digest.hexdigest()[:12]}"


def install(into: Path) -> None:
    """Make a virtual environment with all requirements in an empty folder."""
    environments.run(sys.executable, "-m", "venv", into)
    for options, requirements in STEPS:
        pip = (into / "bin" / "python", "-m", "pip", "install", "--quiet")
        environments.run(*pip, *options, "-r", requirements)


def command(arguments: Sequence[str]) -> list[str]:
    """How pytest is called there; the environment is made where it is missing."""
    environments.ensure(folder(), install)
    return [str(folder() / "bin" / "python"), "-m", "pytest", *OPTIONS, *arguments]


def variables() -> dict[str, str]:
    """The environment variables of that process: one thread, and nothing meant for our pytest."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(
    arguments: Sequence[str], *, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pytest there, what it writes kept as text."""
    return subprocess.run(
        command(arguments), cwd=ROOT, env=variables(), timeout=timeout_s, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
