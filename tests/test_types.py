"""The tests are typed as the code is, but for a list in pyproject.toml that only gets shorter."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def overrides() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    found: list[dict[str, Any]] = settings["overrides"]
    return found


UNTYPED = [
    module
    for override in overrides()
    if override.get("disallow_untyped_defs") is False
    for module in override["module"]
]


def files(module: str) -> list[Path]:
    path = ROOT / module.removesuffix(".*").replace(".", "/")
    return sorted(path.rglob("*.py")) if module.endswith(".*") else [path.with_suffix(".py")]


def is_typed(path: Path) -> bool:
    """Whether all functions say what they take and give."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if node.returns is None or any(
                one.annotation is None for one in given if one.arg not in ("self", "cls")
            ):
                return False
    return True


def test_everything_is_checked_in_one_run() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    assert {"gateway", "deploy", "tests"} <= set(settings["packages"])
    assert not [override for override in overrides() if override.get("ignore_errors")]


@pytest.mark.parametrize("module", UNTYPED)
def test_no_test_is_excused_that_is_typed(module: str) -> None:
    assert files(module), "it is gone: take it off the list"
    assert not all(is_typed(path) for path in files(module)), "it is typed: take it off the list"
