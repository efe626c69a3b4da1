"""What is made from the code is in step with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from deploy import examples, metrics_table
from deploy.generate import ROOT, files
from gateway.config import Config, load
from gateway.routing.catalogue import Catalogue
from gateway.settings.section import Section
from gateway.telemetry.metrics import Metrics
from gateway.upstreams import provider as vendors
from gateway.upstreams.provider import ProviderSettings, base_url_variable

KEYS = {"LIVEKIT_API_KEY": "APItest", "LIVEKIT_API_SECRET": "s" * 40}
EXAMPLE: dict[str, Any] = yaml.safe_load(examples.configuration())


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_a_made_file_is_as_the_code_makes_it(path: Path) -> None:
    assert path.is_file() and path.read_text("utf-8") == files()[path], (  # noqa: PT018
        f"{path.relative_to(ROOT)} is behind: python -m deploy.generate"
    )


def missing(section: type[Section], shown: Any, place: str) -> list[str]:
    """Fields of `section` that do not stand in `shown`, and those of the sections inside it."""
    if not isinstance(shown, dict):
        return [f"{place}: nothing is shown"]
    absent = []
    for name, field in section.model_fields.items():
        where = f"{place}.{name}".strip(".")
        if name not in shown:
            absent.append(where)
        elif where not in ("providers", "models"):
            for part in (field.annotation, *get_args(field.annotation)):
                if isinstance(part, type) and issubclass(part, Section):
                    given = shown[name]
                    if part is not field.annotation:  # names -> sections: the first shows it all
                        given = next(iter(given.values()), None)
                    absent += missing(part, given, where)
    return absent


def test_the_example_shows_every_option_of_every_section() -> None:
    assert missing(Config, EXAMPLE, "") == []


def test_the_example_shows_every_option_of_a_provider_and_of_a_deployment() -> None:
    shown = {name: set(given) for name, given in EXAMPLE["providers"].items()}
    types = {name: given.get("type", name) for name, given in EXAMPLE["providers"].items()}

    assert any(set(ProviderSettings.model_fields) <= fields for fields in shown.values())
    for type_name in vendors.type_names():
        own = set(vendors.find(type_name).settings.model_fields) - set(
            ProviderSettings.model_fields
        )
        of_type = [shown[name] for name in shown if types[name] == type_name]
        assert not own or any(own <= fields for fields in of_type), (type_name, own)
    deployment = get_args(get_args(Config.model_fields["models"].annotation)[1])[0]
    assert set(deployment.model_fields) <= set(EXAMPLE["models"]["fast"][0])


def sections(section: type[Section]) -> set[type[Section]]:
    """`section` and those inside it."""
    found = {section}
    for field in section.model_fields.values():
        inner = examples.section_in(field.annotation)
        if inner is not None:
            found |= sections(inner)
    return found


def test_every_option_has_a_meaning() -> None:
    vendor_settings = {vendors.find(name).settings for name in vendors.type_names()}
    unexplained = [
        f"{section.__name__}.{name}"
        for section in sections(Config) | vendor_settings
        for name, field in section.model_fields.items()
        if not field.description and not examples.meaning_of(field)
    ]

    assert unexplained == []


def test_the_example_is_a_configuration_that_serves(tmp_path: Path) -> None:
    written = tmp_path / "config.yaml"
    written.write_text(examples.configuration())

    config = load(written, KEYS)

    assert [
        attempt.provider
        for attempt in Catalogue(config.models, config.accounts(), "chat").names()["fast"]
    ] == [
        "my-llm",
        "spare-llm",
    ]


def test_the_example_changes_nothing_that_has_a_default(tmp_path: Path) -> None:
    written = tmp_path / "config.yaml"
    written.write_text(examples.configuration())
    config = load(written, KEYS)

    for name, field in Config.model_fields.items():
        if name != "keys" and name not in examples.SHOWN:
            assert getattr(config, name) == field.get_default(call_default_factory=True), name


def test_the_example_leaves_vendors_to_their_variables(tmp_path: Path) -> None:
    written = tmp_path / "config.yaml"
    written.write_text(examples.configuration())
    variables = {
        vendor.key_variable: "k" * 20
        for vendor in map(vendors.find, vendors.type_names())
        if vendor.key_variable and vendor.key_required and vendor.base_url
    }

    config = load(written, KEYS | variables)

    for type_name in vendors.type_names():
        if vendors.find(type_name).key_variable in variables:
            assert config.providers[type_name].enabled, type_name


def test_the_example_environment_names_the_variables_of_every_vendor() -> None:
    shown = set(re.findall(r"^#?([A-Z0-9_]+)=", examples.environment(), re.MULTILINE))

    for type_name in vendors.type_names():
        key_variable = vendors.find(type_name).key_variable
        assert key_variable is None or key_variable in shown
        assert base_url_variable(type_name) in shown


def test_the_example_environment_holds_no_secret() -> None:
    given = re.findall(r"^#?([A-Z0-9_]+(?:KEY|SECRET|TOKEN))=(.*)$", examples.environment(), re.M)

    assert given
    assert [name for name, value in given if value] == []


def test_the_table_has_every_metric_that_is_exposed() -> None:
    metrics = Metrics()
    exposed = {family.name for family in metrics.registry.collect()}
    rows = list(metrics_table.rows(metrics))
    listed = {row.name.removesuffix("_total").removesuffix("_info") for row in rows}

    assert {name for name in exposed if name.startswith("parley_")} == listed
    assert all(row.meaning for row in rows)


def test_a_readme_without_a_place_for_the_table_is_told_so() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        metrics_table.put_into("# Parley\n", Metrics())
