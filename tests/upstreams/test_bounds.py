"""Whoever refuses a caller for a bound says which one it is, so that it is counted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "gateway"
OF_BOUNDS = {
    "TOO_LARGE", "TOO_MANY_SESSIONS", "TOO_MANY_CONNECTIONS", "IDLE", "SESSION_TOO_LONG"
}  # fmt: skip
"""Kinds of failure that mean nothing else."""


def unnamed(path: Path) -> Iterator[int]:
    """Lines where such a failure is made without its bound."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        kinds = {
            one.attr
            for argument in node.args
            for one in ast.walk(argument)
            if isinstance(one, ast.Attribute)
        }
        has_bound = any(word.arg == "bound" for word in node.keywords) or "Bound" in ast.unparse(
            node
        )
        if node.func.id in ("Failure", "Refusal") and kinds & OF_BOUNDS and not has_bound:
            yield node.lineno


def test_every_refusal_for_a_bound_names_it() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for room in ("server", "conversations")
        for path in sorted((ROOT / room).rglob("*.py"))
        for line in unnamed(path)
    ]

    assert found == []
