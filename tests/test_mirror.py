"""Tests mirror the code: `gateway/a/b.py` is tested by `tests/a/test_b.py`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent / "gateway"

UNTESTED = {
    # This list may only get shorter. What is here is reached by the tests that stand beside it.
    "conversations/chat/route.py": "tests/test_app.py",
    "conversations/stt/route.py": "tests/end_to_end/test_stt.py",
    "providers/local/llm_server.py": "tests/end_to_end/test_local_llm.py",
}

MODULES = [
    path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.rglob("*.py"))
    if not path.name.startswith("__")
]


def only_declares(module: str) -> bool:
    """Whether it has no statement inside a function: types, constants and tables of vendors are
    tested by those who use them, and a protocol's methods have nothing but their docstring."""
    functions = (
        node
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return all(
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        for function in functions
        for statement in function.body
    )


def mirror(module: str) -> Path:
    path = TESTS / module
    return path.with_name(f"test_{path.name.removeprefix('_')}")


@pytest.mark.parametrize("module", [m for m in MODULES if m not in UNTESTED])
def test_a_module_has_a_test_of_its_name(module: str) -> None:
    assert mirror(module).exists() or only_declares(module), (
        f"gateway/{module} has no {mirror(module).relative_to(TESTS.parent)}"
    )


@pytest.mark.parametrize("module", UNTESTED)
def test_no_module_is_excused_that_need_not_be(module: str) -> None:
    assert module in MODULES, "it is gone: take it off the list"
    assert not mirror(module).exists(), "it has a test: take it off the list"
    assert not only_declares(module), "it only declares: take it off the list"
    assert (TESTS.parent / UNTESTED[module]).exists(), "what tests it instead is gone"
