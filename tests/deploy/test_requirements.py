"""The pinned requirements are in step with what asks for them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(path: str) -> dict[str, set[str]]:
    """Name -> versions, of which there may be several for several Pythons."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", (ROOT / path).read_text(), re.MULTILINE
    ):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


def listed(path: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / path).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def extras(*names: str) -> list[str]:
    return [text for name in names for text in PROJECT["project"]["optional-dependencies"][name]]


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (PROJECT["project"]["dependencies"], "deploy/requirements.txt"),
        (extras("redis", "postgres"), "deploy/requirements.txt"),
        (PROJECT["project"]["dependencies"], "deploy/requirements-full.txt"),
        (
            extras("redis", "postgres", "local", "espeak", "turn-text"),
            "deploy/requirements-full.txt",
        ),
        (PROJECT["build-system"]["requires"], "deploy/requirements-build.txt"),
        (PROJECT["project"]["dependencies"], "tests/requirements.txt"),
        (listed("tests/requirements.in"), "tests/requirements.txt"),
        (PROJECT["project"]["dependencies"], "models/requirements.txt"),
        (listed("models/requirements.in"), "models/requirements.txt"),
        (listed("models/requirements-baselines.in"), "models/requirements-baselines.txt"),
        (listed("models/requirements-torch.txt"), "models/requirements-torch.txt"),
    ],
    ids=[
        *("runtime", "stores", "all", "engines", "build", "runtime in tests", "tests"),
        *("runtime in models", "models", "baselines", "torch"),
    ],
)
def test_what_is_asked_for_is_pinned(asked: list[str], path: str) -> None:
    versions = pinned(path)
    missing = [
        text
        for text in asked
        for one in [Requirement(text)]
        if not any(
            one.specifier.contains(version, prereleases=True)
            for version in versions.get(canonicalize_name(one.name), ())
        )
    ]

    assert not missing, f"{path} lacks {missing}: run deploy/lock"


def test_the_tests_run_on_the_versions_that_are_deployed() -> None:
    tested = pinned("tests/requirements.txt")

    assert {name: tested.get(name) for name in pinned("deploy/requirements.txt")} == pinned(
        "deploy/requirements.txt"
    )


def test_models_are_made_on_the_versions_that_are_tested() -> None:
    tested, used = pinned("tests/requirements.txt"), pinned("models/requirements.txt")
    both = tested.keys() & used.keys()

    assert "onnxruntime" in both
    assert {name: used[name] for name in both} == {name: tested[name] for name in both}


@pytest.mark.parametrize(
    "path",
    [
        "deploy/requirements.txt",
        "tests/requirements.txt",
        "models/requirements.txt",
        "models/requirements-baselines.txt",
    ],
)
def test_pinned_requirements_say_nothing_of_where_packages_come_from(path: str) -> None:
    text = (ROOT / path).read_text()

    assert "--hash=sha256:" in text
    assert not re.search(r"://|^\s*-[a-z]|^--(?!hash)", text, re.MULTILINE)
