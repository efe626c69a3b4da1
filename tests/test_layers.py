"""Imports point one way: what decides knows nothing of sockets, vendors nothing of each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "gateway"
CONVERSATIONS = ("chat", "stt", "tts", "bargein", "eot")
IO = set(
    "asyncio socket ssl aiohttp websockets uvicorn starlette fastapi time threading concurrent "
    "subprocess".split()
)
IO_OF_OURS = {"gateway.connect", "gateway.drive", "gateway.wire", "gateway.door", "gateway.app",
              "gateway.serve", "gateway.cli"}  # fmt: skip


def modules(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def translators(*patterns: str) -> list[Path]:
    """Without the engines of our own, which run here."""
    return [path for path in modules(*patterns) if "providers/local" not in name(path)]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return path.relative_to(ROOT.parent).as_posix()


@pytest.mark.parametrize(
    "path",
    translators(
        "plan.py",
        "events.py",
        "errors.py",
        "dial.py",
        "health.py",
        "routes.py",
        "slots.py",
        "providers/**/*.py",
        *(f"{c}/{m}.py" for c in CONVERSATIONS for m in ("session", "messages", "upstream")),
        *(
            f"stt/{m}.py"
            for m in ("actions", "caller", "course", "kept", "line", "lines", "planning")
        ),
        *(f"stt/{m}.py" for m in ("renewal", "report", "service", "telling", "watch")),
        "chat/relay.py",
        "chat/readers.py",
        "chat/writer.py",
        "chat/failures.py",
        "bargein/decision.py",
        "audio/timeline.py",
    ),
    ids=name,
)
def test_what_decides_imports_no_socket_and_no_clock(path: Path):
    roots = {module.partition(".")[0] for module in imports(path)}
    assert not roots & IO
    assert not set(imports(path)) & IO_OF_OURS


@pytest.mark.parametrize("path", modules("providers/**/*.py"), ids=name)
def test_no_vendor_imports_another(path: Path):
    own = path.relative_to(ROOT / "providers").parts[0].removesuffix(".py")
    for module in imports(path):
        if not module.startswith("gateway.providers."):
            continue
        vendor = module.split(".")[2]
        assert vendor == own or vendor.startswith("_"), f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", modules(*(f"{c}/*.py" for c in CONVERSATIONS)), ids=name)
def test_no_conversation_imports_another_but_for_its_settings(path: Path):
    own = path.relative_to(ROOT).parts[0]
    for module in imports(path):
        for other in CONVERSATIONS:
            assert other == own or not module.startswith(f"gateway.{other}."), module


def test_only_one_module_imports_onnxruntime():
    users = [name(p) for p in modules("**/*.py") if "onnxruntime" in set(imports(p))]
    assert users == ["gateway/inference/onnx.py"]


def test_only_app_serve_and_the_command_line_know_the_application():
    for path in modules("**/*.py"):
        if name(path) not in ("gateway/serve.py", "gateway/cli.py", "gateway/app.py"):
            assert "gateway.app" not in set(imports(path)), name(path)
