"""Commands that documents and docstrings name are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [*ROOT.glob("*.md"), *(ROOT / "models").rglob("*.md"), *(ROOT / "models").rglob("*.py")]
NAMED = sorted({
    module
    for path in TEXTS
    for module in re.findall(r"python -m (models(?:\.[a-z_]+)+)(?![.\w])", path.read_text("utf-8"))
})  # fmt: skip


@pytest.mark.parametrize("module", NAMED)
def test_a_command_that_is_named_can_be_run(module: str) -> None:
    place = ROOT / module.replace(".", "/")
    path = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    assert '__name__ == "__main__"' in path.read_text("utf-8")


@pytest.mark.parametrize("path", [*(ROOT / "models").rglob("*.md")], ids=lambda path: path.name)
def test_files_that_a_document_names_are_there(path: Path) -> None:
    for name in re.findall(
        r"`((?:models/)?[\w/]+\.(?:py|toml))`|\]\(([\w/.]+)\)", path.read_text("utf-8")
    ):
        file = name[0] or name[1]
        places = (ROOT, path.parent)
        assert any((place / file).exists() for place in places), f"{path}: {file}"
