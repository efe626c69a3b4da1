"""The tests are typed as the code is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def overrides() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    found: list[dict[str, Any]] = settings["overrides"]
    return found


def test_everything_is_checked_in_one_run() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    assert {"gateway", "deploy", "models", "tests"} <= set(settings["packages"])
    assert not [override for override in overrides() if override.get("ignore_errors")]


def test_no_module_is_excused_from_types() -> None:
    assert not [one for one in overrides() if one.get("disallow_untyped_defs") is False]
