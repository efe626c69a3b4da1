"""The compose files: valid, closed, and saying what is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import redis
import yaml

from deploy import examples
from gateway.config import Config, load
from gateway.routing.catalogue import Catalogue
from gateway.serve import CLOSE_S
from gateway.settings.server import ServerConfig
from tests.ports import Port
from tests.services import STOP_TIMEOUT_S, needed, wait_until

ROOT = Path(__file__).parents[2]
DEVELOPMENT, PRODUCTION = "docker-compose.yml", "deploy/compose.production.yaml"
KEYS = {"LIVEKIT_API_KEY": "APItest", "LIVEKIT_API_SECRET": "s" * 40}
NEEDED = {
    DEVELOPMENT: KEYS,
    PRODUCTION: KEYS
    | {
        "PARLEY_DOMAIN": "voice.example.com",
        "REDIS_PASSWORD": "r" * 8,
        "POSTGRES_PASSWORD": "p" * 8,
    },
}
"""Variables that each file cannot do without."""

_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


class MissingError(Exception):
    """A variable that must be set is not; the message is what compose prints."""


def read(environment: Mapping[str, str], path: str = DEVELOPMENT) -> dict[str, Any]:
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

    interpolated: dict[str, Any] = interpolate(yaml.safe_load((ROOT / path).read_text()))
    return interpolated


FILES = {path: read(needed, path) for path, needed in NEEDED.items()}
COMPOSE = FILES[DEVELOPMENT]
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
every_file = pytest.mark.parametrize("path", FILES)
every_service = pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, file in FILES.items() for name in file["services"]]
)


def gateways(file: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in file["services"].items() if name.startswith("gateway")}


@every_file
def test_the_file_follows_the_published_compose_schema(path: str) -> None:
    published = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(published.read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)

    assert [error.message for error in validator.iter_errors(FILES[path])] == []
    broken = FILES[path] | {"services": {"gateway": {"imagine": "parley"}}}
    assert list(validator.iter_errors(broken)), "the schema finds nothing"


@pytest.mark.parametrize(
    ("path", "missing"), [(path, name) for path, needed in NEEDED.items() for name in needed]
)
@pytest.mark.parametrize("given", ["", None])
def test_without_what_it_needs_it_says_where_to_put_it(
    path: str, missing: str, given: str | None
) -> None:
    environment = {name: value for name, value in NEEDED[path].items() if name != missing}
    if given is not None:
        environment[missing] = given

    with pytest.raises(MissingError, match=rf"{missing}: .*\.env"):
        read(environment, path)


@every_service
def test_a_container_can_do_no_more_than_it_must(path: str, name: str) -> None:
    service = FILES[path]["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add") == (["NET_BIND_SERVICE"] if name == "caddy" else None)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert "privileged" not in service
    assert "network_mode" not in service


@every_service
def test_an_image_is_pinned_or_built_here(path: str, name: str) -> None:
    service = FILES[path]["services"][name]
    tag = service["image"].rpartition(":")[2]

    # PostgreSQL's versions have two numbers
    assert "build" in service or re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-\w+)?", tag)


def test_both_files_run_the_same_versions() -> None:
    images = {
        name: {file["services"][name]["image"] for file in FILES.values()}
        for name in FILES[DEVELOPMENT]["services"].keys() & FILES[PRODUCTION]["services"].keys()
    }

    assert {name: len(found) for name, found in images.items()} == dict.fromkeys(images, 1)


@every_service
def test_ports_are_open_to_this_machine_alone_but_for_those_of_tls(path: str, name: str) -> None:
    opened = FILES[path]["services"][name].get("ports", [])

    if name == "caddy":
        assert opened == ["80:80", "443:443"]
    else:
        assert [port for port in opened if not port.startswith("127.0.0.1:")] == []


@every_file
def test_the_operators_port_is_published_nowhere(path: str) -> None:
    for one in gateways(FILES[path]).values():
        published = [port.rpartition(":")[2] for port in one.get("ports", [])]
        assert str(ServerConfig().admin_port) not in published


@every_file
def test_agents_share_a_network_with_the_gateways_alone(path: str) -> None:
    on: dict[str, set[str]] = {}
    for name, one in FILES[path]["services"].items():
        for network in one["networks"]:
            on.setdefault(network, set()).add(name)
    gates = set(gateways(FILES[path]))

    assert on["parley"] == gates
    # what only the gateways may ask, and Prometheus watches
    assert {"redis", "prometheus", "grafana", "llm"} | gates <= on["inside"]
    assert "name" not in (FILES[path]["networks"]["inside"] or {})
    if path == PRODUCTION:
        assert on["edge"] == gates | {"caddy"}


def test_only_the_gateway_can_be_opened_to_others() -> None:
    opened = read(KEYS | {"PARLEY_BIND": "0.0.0.0", "PARLEY_PORT": "80"})["services"]

    assert opened["gateway"]["ports"] == ["0.0.0.0:80:8080"]
    for name in SERVICES.keys() - {"gateway"}:
        for port in opened[name].get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)


@every_service
def test_a_service_has_a_health_check_unless_it_ends_by_itself(path: str, name: str) -> None:
    service = FILES[path]["services"][name]

    assert "healthcheck" in service or service["restart"].startswith("on-failure")


@every_file
def test_grafana_has_nobody_to_log_in_as_and_lets_everybody_look(path: str) -> None:
    environment = FILES[path]["services"]["grafana"]["environment"]

    assert not [name for name in environment if "PASSWORD" in name or "ADMIN_USER" in name]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"


@every_file
def test_grafana_keeps_its_own_plugins_on_the_read_only_file_system(path: str) -> None:
    environment = FILES[path]["services"]["grafana"]["environment"]

    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


@every_file
def test_sessions_have_their_time_to_end_before_the_container_is_killed(path: str) -> None:
    for one in gateways(FILES[path]).values():
        grace_s = float(one["stop_grace_period"].removesuffix("s"))
        mounted = configuration(one).get("server", {})
        needed_s = mounted.get("shutdown_grace_s", ServerConfig().shutdown_grace_s)

        assert grace_s > needed_s + CLOSE_S


@every_service
def test_what_is_mounted_exists_and_cannot_be_written(path: str, name: str) -> None:
    for volume in FILES[path]["services"][name].get("volumes", []):
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), volume
            assert rest.endswith(":ro"), volume
        else:
            assert source in FILES[path]["volumes"]


def test_optional_services_stay_away_unless_asked_for() -> None:
    assert {name for name in SERVICES if "profiles" not in SERVICES[name]} == {
        "gateway",
        "prometheus",
        "grafana",
    }
    assert {p for s in SERVICES.values() for p in s.get("profiles", [])} == {"llm", "redis"}
    production = FILES[PRODUCTION]["services"]
    assert {name for name in production if "profiles" in production[name]} == {"llm", "llm-model"}


@every_file
def test_every_variable_stands_in_the_example_environment(path: str) -> None:
    text = (ROOT / path).read_text()
    used = {match[0] for match in _VARIABLE.findall(text)} - {"PARLEY_VERSION"}
    shown = set(re.findall(r"^#?([A-Z_]+)=", examples.environment(), re.MULTILINE))

    assert used <= shown


@pytest.mark.parametrize(
    ("environment", "models"),
    [({}, set()), ({"LLM_ENABLED": "true", "LLM_MODEL": "qwen3:4b"}, {"llm/qwen3:4b"})],
    ids=["without", "with"],
)
def test_the_model_server_is_a_provider_once_it_is_switched_on(
    environment: dict[str, str], models: set[str], tmp_path: Path
) -> None:
    gateway = read(KEYS | environment)["services"]["gateway"]

    config = loaded(gateway, tmp_path)

    served = set(Catalogue(config.models, config.accounts(), "chat").names())
    assert {name for name in served if name.startswith("llm/")} == models
    if models:
        port = SERVICES["llm-model"]["environment"]["OLLAMA_HOST"].rpartition(":")[2]
        assert config.accounts()["llm"].base_url == f"http://llm:{port}/v1"
        assert read(KEYS | environment)["services"]["llm-model"]["command"] == ["pull", "qwen3:4b"]


def test_quotas_and_usage_records_go_where_the_environment_says(tmp_path: Path) -> None:
    given = {"REDIS_URL": "redis://redis:6379/0", "USAGE_URL": "postgresql://u:p@db/parley"}
    for environment in ({}, given):
        gateway = read(KEYS | environment)["services"]["gateway"]
        config = loaded(gateway, tmp_path)

        told = (config.quota.redis_url, config.usage.url)
        assert [url and url.get_secret_value() for url in told] == [
            environment.get("REDIS_URL"),
            environment.get("USAGE_URL"),
        ]
    assert "redis" in SERVICES["redis"]["profiles"]


def test_in_production_two_gateways_share_quotas_and_usage_records(tmp_path: Path) -> None:
    both = [loaded(one, tmp_path) for one in gateways(FILES[PRODUCTION]).values()]

    assert len(both) == 2
    for config in both:
        assert config.quota.redis_url is not None
        assert config.quota.redis_url.get_secret_value() == "redis://:rrrrrrrr@redis:6379/0"
        assert config.usage.url is not None
        assert config.usage.url.get_secret_value() == "postgresql://parley:pppppppp@postgres/parley"
    postgres = FILES[PRODUCTION]["services"]["postgres"]["environment"]
    assert postgres["POSTGRES_USER"] == postgres["POSTGRES_DB"] == "parley"
    assert postgres["POSTGRES_PASSWORD"] == "p" * 8
    # each spills what PostgreSQL does not take into a folder of its own
    folders = {
        volume
        for one in gateways(FILES[PRODUCTION]).values()
        for volume in one["volumes"]
        if volume.endswith(":/var/lib/parley")
    }
    assert len(folders) == 2


@every_file
def test_only_the_network_of_agents_needs_no_token(path: str, tmp_path: Path) -> None:
    file = FILES[path]
    subnets = {
        name: network["ipam"]["config"][0]["subnet"]
        for name, network in file["networks"].items()
        if network
    }
    for one in gateways(file).values():
        trusted = {str(network) for network in loaded(one, tmp_path).eot.anonymous_networks}
        assert subnets["parley"] in trusted
        assert trusted - {subnets["parley"]} <= {"127.0.0.0/8", "::1/128"}
        proxies = configuration(one).get("server", {}).get("trusted_proxies", [])
        assert proxies == ([subnets["edge"]] if path == PRODUCTION else [])


@pytest.mark.parametrize(
    ("prometheus", "path"),
    [("deploy/prometheus.yml", DEVELOPMENT), ("deploy/prometheus.production.yml", PRODUCTION)],
)
def test_prometheus_scrapes_every_gateway_on_the_operators_port(prometheus: str, path: str) -> None:
    scraped = yaml.safe_load((ROOT / prometheus).read_text())
    jobs = {job["job_name"]: job for job in scraped["scrape_configs"]}
    mounted = FILES[path]["services"]["prometheus"]["volumes"]

    assert f"./{prometheus}:/etc/prometheus/prometheus.yml:ro" in mounted
    assert jobs["parley"]["static_configs"][0]["targets"] == [
        f"{name}:{ServerConfig().admin_port}" for name in gateways(FILES[path])
    ]
    for one in gateways(FILES[path]).values():
        assert configuration(one)["server"]["admin_host"] == "0.0.0.0"


def test_alerts_reach_the_alertmanager_that_runs_beside() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus.production.yml").read_text())
    (told,) = scraped["alerting"]["alertmanagers"]
    services = FILES[PRODUCTION]["services"]

    assert told["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert set(services["alertmanager"]["networks"]) & set(services["prometheus"]["networks"])
    routing = yaml.safe_load((ROOT / "deploy/alertmanager.yml").read_text())
    receivers = {receiver["name"] for receiver in routing["receivers"]}
    assert {one["receiver"] for one in (routing["route"], *routing["route"]["routes"])} == receivers


@every_file
def test_redis_asks_for_its_password_and_keeps_balances_over_a_restart(
    path: str, tmp_path: Path
) -> None:
    needed("redis-server")
    service = read(NEEDED[path] | {"REDIS_PASSWORD": "open-sesame"}, path)["services"]["redis"]
    with Port() as port:
        for value in (None, b"41"):  # before and after a restart
            with redis_of(service, tmp_path, port.number) as client:
                with pytest.raises(redis.AuthenticationError):
                    redis.Redis(port=port.number).get("balance")
                assert client.get("balance") == value
                client.set("balance", 41)
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                # nobody who lists processes reads it
                assert (
                    b"open-sesame"
                    not in Path(f"/proc/{client.info()['process_id']}/cmdline").read_bytes()
                )


@every_file
def test_redis_does_not_start_without_a_password(path: str, tmp_path: Path) -> None:
    service = FILES[path]["services"]["redis"]

    done = subprocess.run(
        [part.replace("$$", "$") for part in service["command"]],
        env={"PATH": os.environ["PATH"], "REDISCLI_AUTH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "REDIS_PASSWORD" in done.stderr


@contextmanager
def redis_of(service: dict[str, Any], folder: Path, port: int) -> Iterator[redis.Redis]:
    """The service's own command, with another folder and port."""
    *shell, script = (part.replace("$$", "$") for part in service["command"])
    script = script.replace("--dir /data", f"--dir {folder} --port {port}")
    environment = {"PATH": os.environ["PATH"], **service["environment"]}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*shell, script], env=environment, stdout=log, stderr=log)
    client = redis.Redis(port=port, password=service["environment"]["REDISCLI_AUTH"])
    try:
        wait_until(lambda: answers(client))
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def configuration(gateway: dict[str, Any]) -> dict[str, Any]:
    """What is mounted as its configuration file."""
    (mounted,) = [volume for volume in gateway["volumes"] if volume.endswith(":ro")]
    path, inside, _ = mounted.split(":")
    assert inside == gateway["environment"]["GATEWAY_CONFIG"]
    config: dict[str, Any] = read(gateway["environment"], path)
    return config


def loaded(gateway: dict[str, Any], folder: Path) -> Config:
    """The configuration as the gateway reads it in its container."""
    (mounted,) = [volume for volume in gateway["volumes"] if volume.endswith(":ro")]
    raw = yaml.safe_load((ROOT / mounted.partition(":")[0]).read_text())
    written = folder / "config.yaml"
    written.write_text(yaml.safe_dump(raw))
    return load(written, gateway["environment"])
