"""Imports among the models' tools point one way, between modules and between stages."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATHS = sorted(p for p in (ROOT / "models").rglob("*.py") if p.stem != "__init__")


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> Iterator[str]:
    """The modules of `models` that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models"):
            assert node.module
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else node.module


MODULES = {name(path) for path in PATHS}
IMPORTS = {name(path): set(imported(path)) for path in PATHS}


def stage(module: str) -> str:
    """The package of a module; a module outside of one is its own."""
    return module if module.count(".") < 3 else module.rpartition(".")[0]


def test_no_module_imports_what_imports_it() -> None:
    order = list(TopologicalSorter(IMPORTS).static_order())
    assert set(order) == MODULES


def test_no_stage_imports_what_imports_it() -> None:
    stages: dict[str, set[str]] = {}
    for module, others in IMPORTS.items():
        found = stages.setdefault(stage(module), set())
        found |= {stage(other) for other in others} - {stage(module)}
    order = [one for one in TopologicalSorter(stages).static_order() if one.count(".") == 2]
    here = {"data", "export", "evaluate", "label", "pretrained", "train"}
    assert {f"models.interruption.{one}" for one in here} <= set(order)
    assert not stages["models.interruption.pretrained"] & {f"models.interruption.{s}" for s in here}


def test_what_is_published_needs_none_of_these() -> None:
    for path in (ROOT / "gateway").rglob("*.py"):
        assert not list(imported(path)), path
