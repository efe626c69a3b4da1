"""The documents of deploy/ speak of files, options and bounds that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import examples
from gateway.config import Config
from gateway.upstreams.bounds import Bound

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "deploy").glob("*.md"))
UNITS = {
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "s": 1,
    "h": 3600,
    "": 1,
    "characters": 1,
    "items": 1,
    "days": 1,
    "MB": 1,
}
BOUNDS = re.findall(
    r"^\| [^|]+ \| (\d+) ?([A-Za-z]*) \| `([^`]+)` \| [^|]+ \| (?:`[a-z_]+` )?\|$",
    (ROOT / "deploy/security.md").read_text(),
    re.MULTILINE,
)


def default(option: str) -> Any:
    """The default of `section.option`; raises KeyError for one that does not exist."""
    fields, value = Config.model_fields, None
    for name in option.split("."):
        value = fields[name].get_default(call_default_factory=True)
        fields = getattr(type(value), "model_fields", {})
    return value


def constant(file: str, name: str) -> float:
    """The value of a constant of `gateway/`, as it is written there."""
    for node in ast.parse((ROOT / "gateway" / file).read_text()).body:
        if isinstance(node, ast.AnnAssign):
            target: ast.expr = node.target
            value = node.value
        elif isinstance(node, ast.Assign):
            target = node.targets[0]
            value = node.value
        else:
            continue
        if isinstance(target, ast.Name) and target.id == name and value is not None:
            return float(eval(ast.unparse(value)))  # numbers and shifts
    raise KeyError(f"{file} has no {name}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_exists(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_of_the_checkout_that_a_command_names_exists(document: Path) -> None:
    for path in re.findall(r"(?<![\w/.])deploy/[\w./-]*\w", document.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_option_that_is_named_exists(document: Path) -> None:
    sections = "|".join(Config.model_fields)
    for option in re.findall(rf"`((?:{sections})(?:\.[a-z_]+)+)`", document.read_text()):
        if not option.endswith((".py", ".whisper")):
            default(option)


@pytest.mark.parametrize(("figure", "unit", "where"), BOUNDS, ids=lambda text: text)
def test_a_bound_is_what_the_table_says(figure: str, unit: str, where: str) -> None:
    file, _, name = where.partition(" ")

    held = constant(file, name) if name else float(default(where))

    assert held == int(figure) * UNITS[unit]


def test_the_table_of_bounds_is_read() -> None:
    rows = (ROOT / "deploy/security.md").read_text().partition("## What is bounded")[2]
    table = re.findall(r"^\| [^|]+ \| \d", rows, re.MULTILINE)

    # the memory of the process is bounded by whoever starts it
    assert len(BOUNDS) == len(table) - 1 > 20


def test_the_table_says_what_each_bound_is_counted_as() -> None:
    rows = (ROOT / "deploy/security.md").read_text().partition("## What is bounded")[2]

    assert set(re.findall(r"\| `([a-z_]+)` \|$", rows, re.MULTILINE)) == set(Bound)


def test_the_way_from_an_empty_machine_sets_all_that_production_needs() -> None:
    text = (ROOT / "deploy/README.md").read_text()
    needed = re.findall(r"\$\{([A-Z_]+):\?", (ROOT / "deploy/compose.production.yaml").read_text())

    for name in needed:
        assert name in text, name
    assert set(needed) <= set(re.findall(r"^#?([A-Z_]+)=", examples.environment(), re.MULTILINE))


def test_annotations_for_ingress_nginx_are_those_of_the_chart() -> None:
    told = re.findall(
        r"^\s*(nginx\.ingress\.kubernetes\.io/.+)$",
        (ROOT / "deploy/proxies.md").read_text(),
        re.MULTILINE,
    )
    chart = (ROOT / "deploy/helm/parley/templates/ingress.yaml").read_text()

    assert len(told) == len(re.findall(r"nginx\.ingress\.kubernetes\.io/", chart))
    for line in told:
        assert line in chart
        yaml.safe_load(line)
