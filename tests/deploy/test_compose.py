"""docker-compose.yml: valid, closed, and saying what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy import examples
from gateway.config import load
from gateway.routing.catalogue import Catalogue
from gateway.serve import CLOSE_S
from gateway.settings.server import ServerConfig

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
KEYS = {"LIVEKIT_API_KEY": "APItest", "LIVEKIT_API_SECRET": "s" * 40}

_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


class MissingError(Exception):
    """A variable that must be set is not; the message is what compose prints."""


def read(environment: Mapping[str, str]) -> dict[str, Any]:
    """The file as compose sees it with these variables set."""

    def replace(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if environment.get(name):
            return environment[name]
        if operator == "?":
            raise MissingError(f"{name}: {rest}")
        return rest or ""

    def interpolate(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: interpolate(item) for key, item in value.items()}
        if isinstance(value, list):
            return [interpolate(item) for item in value]
        return _VARIABLE.sub(replace, value) if isinstance(value, str) else value

    interpolated: dict[str, Any] = interpolate(yaml.safe_load(TEXT))
    return interpolated


COMPOSE = read(KEYS)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
every_service = pytest.mark.parametrize("name", SERVICES)


def test_the_file_follows_the_published_compose_schema() -> None:
    published = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(published.read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)

    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    broken = COMPOSE | {"services": {"gateway": {"imagine": "parley"}}}
    assert list(validator.iter_errors(broken)), "the schema finds nothing"


@pytest.mark.parametrize("missing", KEYS)
@pytest.mark.parametrize("given", ["", None])
def test_without_a_key_pair_it_says_where_to_find_out(missing: str, given: str | None) -> None:
    environment = {name: value for name, value in KEYS.items() if name != missing}
    if given is not None:
        environment[missing] = given

    with pytest.raises(MissingError, match=rf"{missing}: .*\.env.*deploy/\.env\.example"):
        read(environment)


@every_service
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert "privileged" not in service
    assert "network_mode" not in service


@every_service
def test_an_image_is_pinned_or_built_here(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]

    assert "build" in service or re.fullmatch(r"v?\d+\.\d+\.\d+(-\w+)?", tag)


@every_service
def test_ports_are_open_to_this_machine_alone_by_default(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


def test_only_the_gateway_can_be_opened_to_others() -> None:
    opened = read(KEYS | {"PARLEY_BIND": "0.0.0.0", "PARLEY_PORT": "80"})["services"]

    assert opened["gateway"]["ports"] == ["0.0.0.0:80:8080"]
    for name in SERVICES.keys() - {"gateway"}:
        for port in opened[name].get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)


@every_service
def test_a_service_has_a_health_check_unless_it_ends_by_itself(name: str) -> None:
    service = SERVICES[name]

    assert "healthcheck" in service or service["restart"].startswith("on-failure")


def test_grafana_has_nobody_to_log_in_as_and_lets_everybody_look() -> None:
    environment = SERVICES["grafana"]["environment"]

    assert not [name for name in environment if "PASSWORD" in name or "ADMIN_USER" in name]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"


def test_grafana_keeps_its_own_plugins_on_the_read_only_file_system() -> None:
    environment = SERVICES["grafana"]["environment"]

    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_sessions_have_their_time_to_end_before_the_container_is_killed() -> None:
    grace_s = float(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))

    assert grace_s > ServerConfig().shutdown_grace_s + CLOSE_S


@every_service
def test_what_is_mounted_exists_and_cannot_be_written(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), volume
            assert rest.endswith(":ro"), volume
        else:
            assert source in COMPOSE["volumes"]


def test_optional_services_stay_away_unless_asked_for() -> None:
    assert {name for name in SERVICES if "profiles" not in SERVICES[name]} == {
        "gateway",
        "prometheus",
        "grafana",
    }
    assert {p for s in SERVICES.values() for p in s.get("profiles", [])} == {"llm", "redis"}


def test_every_variable_stands_in_the_example_environment() -> None:
    used = {match[0] for match in _VARIABLE.findall(TEXT)} - {"PARLEY_VERSION"}
    shown = set(re.findall(r"^#?([A-Z_]+)=", examples.environment(), re.MULTILINE))

    assert used <= shown


@pytest.mark.parametrize(
    ("environment", "models"),
    [({}, set()), ({"LLM_ENABLED": "true", "LLM_MODEL": "qwen3:4b"}, {"llm/qwen3:4b"})],
    ids=["without", "with"],
)
def test_the_model_server_is_a_provider_once_it_is_switched_on(
    environment: dict[str, str], models: set[str]
) -> None:
    gateway = read(KEYS | environment)["services"]["gateway"]
    (mounted,) = [volume for volume in gateway["volumes"] if volume.endswith(":ro")]
    path, inside, _ = mounted.split(":")
    assert inside == gateway["environment"]["GATEWAY_CONFIG"]

    config = load(ROOT / path, gateway["environment"])

    served = set(Catalogue(config.models, config.accounts(), "chat").names())
    assert {name for name in served if name.startswith("llm/")} == models
    if models:
        port = SERVICES["llm-model"]["environment"]["OLLAMA_HOST"].rpartition(":")[2]
        assert config.accounts()["llm"].base_url == f"http://llm:{port}/v1"
        assert read(KEYS | environment)["services"]["llm-model"]["command"] == ["pull", "qwen3:4b"]


def test_quotas_and_usage_records_go_where_the_environment_says() -> None:
    given = {"REDIS_URL": "redis://redis:6379/0", "USAGE_URL": "postgresql://u:p@db/parley"}
    for environment in ({}, given):
        gateway = read(KEYS | environment)["services"]["gateway"]
        config = load(ROOT / "deploy/config.compose.yaml", gateway["environment"])

        told = (config.quota.redis_url, config.usage.url)
        assert [url and url.get_secret_value() for url in told] == [
            environment.get("REDIS_URL"),
            environment.get("USAGE_URL"),
        ]
    assert "redis" in SERVICES["redis"]["profiles"]


def test_prometheus_scrapes_the_gateway_where_it_listens() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in scraped["scrape_configs"]}

    assert jobs["parley"]["static_configs"][0]["targets"] == [f"gateway:{ServerConfig().port}"]
