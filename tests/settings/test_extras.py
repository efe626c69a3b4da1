"""What error messages recommend to install exists, and is ours."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gateway.settings.extras import EXTRAS, how_to_install

ROOT = Path(__file__).parents[2]


def test_every_extra_of_the_project_says_how_to_get_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"])


def test_what_the_image_includes_is_in_its_requirements() -> None:
    included = (ROOT / "deploy" / "requirements.txt").read_text()
    assert {name for name, how in EXTRAS.items() if "included" in how} == {
        "redis",
        "postgres",
        "otel",
        "learn",
    }
    assert "\nredis==" in included
    assert "\nasyncpg==" in included
    assert "\ncryptography==" in included


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_installed_from_the_checkout(extra: str) -> None:
    assert f"pip install '.[{extra}]'" in how_to_install(extra)


@pytest.mark.parametrize("folder", ["gateway", "deploy", "models", "README.md", "CONTRIBUTING.md"])
def test_nothing_recommends_a_name_that_nobody_owns_on_the_package_index(folder: str) -> None:
    place = ROOT / folder
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    texts = [file for file in files if file.suffix in (".py", ".md", ".yaml", ".yml", ".toml", "")]
    assert not [
        file
        for file in texts
        if "install parley" in (text := file.read_text(errors="ignore").replace("'", ""))
        or 'install "parley' in text
    ]
