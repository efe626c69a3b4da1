"""Imports point one way, and everything is pure unless it lies in a named shell."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "gateway"

SHELL = (
    "gateway.app", "gateway.installation", "gateway.reload", "gateway.serve", "gateway.__main__",
    "gateway.config", "gateway.cli", "gateway.engines", "gateway.providers.local",
    "gateway.runtime", "gateway.server", "gateway.telemetry", "gateway.weights",
)  # fmt: skip
"""Packages that do: sockets, clocks, disks, threads, native libraries. A `route` is one too."""

PURE_IN_SHELL = (
    "gateway.engines.types", "gateway.engines.interruption.decision", "gateway.telemetry.outcome",
)  # fmt: skip

IO = frozenset(
    "aiohttp asyncio asyncpg concurrent fastapi http httptools multiprocessing onnxruntime "
    "redis select signal socket sqlite3 ssl starlette subprocess tempfile threading time uvicorn "
    "uvloop websockets".split()
)

FLOORS = (
    ("gateway.__main__", "gateway.cli"),
    ("gateway.serve",),
    ("gateway.reload", "gateway.app"),
    ("gateway.installation",),
    ("gateway.conversations",),
    ("gateway.providers", "gateway.config"),
    ("gateway.server",),
    ("gateway.engines", "gateway.runtime"),
    ("gateway.routing", "gateway.telemetry", "gateway.weights"),
    ("gateway.upstreams",),
    ("gateway.audio", "gateway.settings"),
)
"""Each imports from its own floor and those below, never from above."""

SIBLINGS = ("gateway.conversations", "gateway.providers")
"""They meet in `gateway.upstreams` alone; the vendors are named in the configuration."""

UPWARD = {
    # tests/test_layers.py wants this list to become shorter, never longer
    ("gateway.upstreams.provider", "gateway.providers"),  # vendors are found by path
}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in sorted(ROOT.rglob("*.py"))}


def inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)


def is_shell(module: str) -> bool:
    if module in PURE_IN_SHELL:
        return False
    leaf = module.rpartition(".")[2]
    is_route = module.startswith("gateway.conversations.") and leaf.endswith("route")
    return inside(module, SHELL) or is_route


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports when it is loaded: what stands inside functions is another matter."""
    found: set[str] = set()

    def walk(nodes: Iterator[ast.AST]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: imports are absolute"
                found.add(node.module or "")
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                walk(ast.iter_child_nodes(node))

    walk(ast.iter_child_nodes(ast.parse(MODULES[module].read_text())))
    return frozenset(found)


def ways_to_io(module: str) -> dict[str, str]:
    """What of IO is reached from `module` by imports, however far away, and on which way."""
    seen, waiting, ways = {module}, [(module, module)], {}
    while waiting:
        current, way = waiting.pop()
        for imported in imports(current):
            root = imported.partition(".")[0]
            if root in IO:
                ways[root] = way
            if imported in MODULES and imported not in seen:
                seen.add(imported)
                waiting.append((imported, f"{way} > {imported}"))
    return ways


@pytest.mark.parametrize("module", [m for m in MODULES if not is_shell(m)])
def test_what_is_not_shell_reaches_no_socket_clock_disk_or_native_library(module: str) -> None:
    assert not ways_to_io(module)


def floor(module: str) -> int:
    return next((i for i, floors in enumerate(FLOORS) if inside(module, floors)), len(FLOORS))


@pytest.mark.parametrize("module", [m for m in MODULES if m != "gateway"])
def test_no_module_imports_from_a_floor_above(module: str) -> None:
    above = {
        imported
        for imported in imports(module)
        if imported in MODULES and imported != "gateway" and floor(imported) < floor(module)
    }
    assert not {one for one in above if (module, one) not in UPWARD}


def test_no_exception_is_listed_that_is_not_needed() -> None:
    assert all(above in imports(module) for module, above in UPWARD)
    assert all(module in MODULES for module in PURE_IN_SHELL)


@pytest.mark.parametrize("module", [m for m in MODULES if inside(m, ("gateway.providers",))])
def test_no_vendor_imports_another(module: str) -> None:
    own = module.split(".")[2] if module.count(".") > 1 else ""
    for imported in imports(module):
        if imported.startswith("gateway.providers."):
            vendor = imported.split(".")[2]
            assert vendor == own or vendor.startswith("_"), imported


@pytest.mark.parametrize("module", [m for m in MODULES if inside(m, ("gateway.conversations",))])
def test_no_conversation_imports_another(module: str) -> None:
    own = module.split(".")[2] if module.count(".") > 1 else ""
    for imported in imports(module):
        if imported.startswith("gateway.conversations."):
            other = ".".join(imported.split(".")[:3])
            # a conversation is a folder; what several need is a module beside the folders
            is_folder = MODULES[other].name == "__init__.py"
            assert not is_folder or imported.split(".")[2] == own, imported


@pytest.mark.parametrize("module", [m for m in MODULES if inside(m, SIBLINGS)])
def test_conversations_and_providers_never_import_one_another(module: str) -> None:
    others = tuple(package for package in SIBLINGS if not inside(module, (package,)))
    assert not {imported for imported in imports(module) if inside(imported, others)}


def test_only_one_module_imports_onnxruntime() -> None:
    assert [m for m in MODULES if "onnxruntime" in imports(m)] == ["gateway.engines.onnx"]
