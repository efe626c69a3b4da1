"""deploy/helm: Helm renders the chart, and what it renders is valid, closed and patient."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gateway import __version__
from gateway.config import load
from gateway.serve import CLOSE_S
from gateway.settings.server import SHUTDOWN_GRACE_S_MAX, LimitsConfig, ServerConfig
from tests.deploy import helm
from tests.deploy.helm import CHART
from tests.services import needed

ROOT = Path(__file__).parents[2]
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
KEYS = {"LIVEKIT_API_KEY": "APItest", "LIVEKIT_API_SECRET": "s" * 40}
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, of which Kubernetes publishes no schema."""

PEER = {"podSelector": {"matchLabels": {"app": "agent"}}}
EVERYTHING: dict[str, Any] = {
    "image": {
        "repository": "registry.example.com/parley",
        "tag": "1.2.3",
        "digest": "sha256:" + "a" * 64,
    },
    "imagePullSecrets": [{"name": "registry"}],
    "config": {
        "limits": {"chat_body_bytes": 16777216},
        "quota": {"redis_url": "redis://:${REDIS_PASSWORD}@redis:6379/0"},
        "usage": {"url": "postgresql://parley:${PG_PASSWORD}@postgres/parley"},
    },
    "secrets": {"env": ["parley", "providers"], "files": ["provider-keys"]},
    "extraEnv": [{"name": "LANG", "value": "C"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
    "ingress": {"enabled": True, "host": "voice.example.com", "tlsSecret": "voice-tls"},
    "autoscaling": {"enabled": True},
    "networkPolicy": {
        "agents": [PEER],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "voice"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "voice", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "calls",
    "extraVolumes": [{"name": "models", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "models", "mountPath": "/models"}],
}


@cache
def plain() -> helm.Rendered:
    return helm.render()


@cache
def full() -> helm.Rendered:
    return helm.render(EVERYTHING)


def pod(rendered: helm.Rendered) -> dict[str, Any]:
    spec: dict[str, Any] = rendered.one("Deployment")["spec"]["template"]["spec"]
    return spec


def container(rendered: helm.Rendered) -> dict[str, Any]:
    one: dict[str, Any]
    (one,) = pod(rendered)["containers"]
    return one


def written_config(rendered: helm.Rendered, name: str = "parley") -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        rendered.objects["ConfigMap", name]["data"]["config.yaml"]
    )
    return config


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_helm_finds_nothing_to_mend(values: dict[str, Any]) -> None:
    assert helm.lint(values) == []


@pytest.mark.parametrize("rendered", [plain, full], ids=["defaults", "everything"])
@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_what_it_renders_follows_the_published_schemas(rendered: Any, version: str) -> None:
    for (kind, _), one in rendered().objects.items():
        if kind not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "parley"


def test_everything_that_is_optional_is_there_once_it_is_asked_for() -> None:
    always = {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}

    assert plain().kinds == always
    assert full().kinds == always | CUSTOM | {"HorizontalPodAutoscaler", "Ingress"}
    none = helm.render(
        {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}}
    )
    assert none.kinds == {"ConfigMap", "Deployment", "Service"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 3}, "'replica' not allowed"),
        ({"image": {"version": "1"}}, "'version' not allowed"),
        ({"replicas": "two"}, "got string, want integer"),
        ({"terminationGracePeriodSeconds": 5}, "minimum"),
        ({"image": {"digest": "latest"}}, "does not match pattern"),
        ({"secrets": {"env": ["Not_A_Name"]}}, "does not match pattern"),
        ({"trustedProxies": ["everybody"]}, "does not match pattern"),
        ({"ingress": {"enabled": True}}, "ingress.host is needed"),
        ({"config": {"server": {"admin_host": "127.0.0.1"}}}, "config.server.admin_host is 127"),
        ({"config": {"server": {"host": "localhost"}}}, "config.server.host is localhost"),
        ({"config": {"server": {"admin_port": 0}}}, "config.server.admin_port: the kubelet's"),
    ],
)
def test_a_mistake_in_the_values_is_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(helm.HelmError, match=message):
        helm.render(values)


def undescribed(schema: dict[str, Any], values: Any, place: str = "") -> list[str]:
    """Values that the schema does not name, and objects in it that take any name."""
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    found = [] if schema.get("additionalProperties") is False else [place or "the top"]
    for name, value in values.items():
        if name not in schema["properties"]:
            found.append(f"{place}.{name}")
        else:
            found += undescribed(schema["properties"][name], value, f"{place}.{name}".strip("."))
    return found


def test_the_schema_names_every_value_and_no_other() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)

    assert undescribed(SCHEMA, VALUES) == []
    assert SCHEMA["properties"].keys() - {"global"} == VALUES.keys()


def test_the_container_is_closed() -> None:
    context = container(plain())["securityContext"]

    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod(plain())["securityContext"]["runAsNonRoot"] is True
    assert pod(plain())["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(plain())["automountServiceAccountToken"] is False


def test_it_runs_as_the_image_does() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    context = pod(plain())["securityContext"]

    assert user is not None
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert container(plain())["image"] == f"parley-gateway:{__version__}"
    digest = EVERYTHING["image"]["digest"]
    assert container(full())["image"] == f"registry.example.com/parley:1.2.3@{digest}"


def test_the_chart_is_of_the_version_that_it_installs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == __version__


@pytest.mark.parametrize("seconds", [18_000, 60])
def test_open_sessions_may_end_before_the_pod_is_killed(seconds: int) -> None:
    rendered = helm.render({"terminationGracePeriodSeconds": seconds})
    grace_s = written_config(rendered)["server"]["shutdown_grace_s"]
    pause_s = float(container(rendered)["lifecycle"]["preStop"]["exec"]["command"][1])

    assert pod(rendered)["terminationGracePeriodSeconds"] == seconds
    assert seconds - 30 <= pause_s + grace_s + CLOSE_S < seconds
    assert grace_s <= SHUTDOWN_GRACE_S_MAX


def test_livekits_own_grace_period_is_the_default() -> None:
    assert VALUES["terminationGracePeriodSeconds"] == 18_000
    longest = SCHEMA["properties"]["terminationGracePeriodSeconds"]["maximum"]
    config = written_config(helm.render({"terminationGracePeriodSeconds": longest}))
    assert config["server"]["shutdown_grace_s"] == SHUTDOWN_GRACE_S_MAX


@pytest.mark.parametrize("rendered", [plain, full], ids=["defaults", "everything"])
def test_the_gateway_accepts_the_configuration(rendered: Any, tmp_path: Path) -> None:
    written = tmp_path / "config.yaml"
    written.write_text(yaml.safe_dump(written_config(rendered())))

    config = load(written, KEYS | {"REDIS_PASSWORD": "r", "PG_PASSWORD": "p"})

    assert config.server.port == ServerConfig().port
    if rendered is full:
        assert config.limits.chat_body_bytes == LimitsConfig().chat_body_bytes
        assert config.quota.redis_url is not None
        assert config.quota.redis_url.get_secret_value() == "redis://:r@redis:6379/0"


def test_a_changed_configuration_rolls_out_and_nothing_else_does() -> None:
    def checksum(values: dict[str, Any]) -> str:
        meta = helm.render(values).one("Deployment")["spec"]["template"]["metadata"]
        return str(meta["annotations"]["checksum/config"])

    before = checksum({})
    assert checksum({"config": {"log": {"level": "debug"}}}) != before
    assert checksum({"replicas": 5}) == before


def test_the_operators_options_win_over_the_charts() -> None:
    rendered = helm.render({"config": {"server": {"port": 9000, "workers": 4}}})

    assert written_config(rendered)["server"]["workers"] == 4
    ports = {port["name"]: port["containerPort"] for port in container(rendered)["ports"]}
    assert ports == {"http": 9000, "admin": ServerConfig().admin_port}


def test_the_probes_ask_what_they_are_for_on_the_operators_port() -> None:
    one = container(plain())
    asked = {name: one[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}

    assert {get["port"] for get in asked.values()} == {"admin"}
    # a draining gateway is not ready, but it must live on
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }


def test_inference_and_the_operators_routes_have_a_service_each() -> None:
    ports = {port["name"]: port["containerPort"] for port in container(plain())["ports"]}
    assert ports == {"http": ServerConfig().port, "admin": ServerConfig().admin_port}
    inference = plain().objects["Service", "parley"]["spec"]
    admin = plain().objects["Service", "parley-admin"]["spec"]

    assert [port["targetPort"] for port in inference["ports"]] == ["http"]
    assert [port["targetPort"] for port in admin["ports"]] == ["admin"]
    # a gateway that drains for hours is watched all the while
    assert admin["publishNotReadyAddresses"] is True


def test_the_labels_lead_from_everything_to_the_pods() -> None:
    labels = full().one("Deployment")["spec"]["template"]["metadata"]["labels"]

    for name in ("parley", "parley-admin"):
        assert full().objects["Service", name]["spec"]["selector"].items() <= labels.items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        selector = full().one(kind)["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels.items()
    policy = full().one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= labels.items()
    assert full().one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "parley"
    assert labels["team"] == "voice"


@pytest.mark.parametrize("config", [None, {"server": None}, {"log": None}])
def test_a_section_whose_lines_are_all_comments_changes_nothing(
    config: dict[str, Any] | None,
) -> None:
    rendered = helm.render({"config": config})

    assert written_config(rendered)["server"] == written_config(plain())["server"]


def test_the_longest_name_of_a_release_makes_names_that_services_may_have() -> None:
    rendered = helm.render({"serviceMonitor": {"enabled": True}}, name="a" * 53)

    names = [name for kind, name in rendered.objects if kind == "Service"]
    assert len(names) == 2
    assert max(map(len, names)) <= 63
    assert all(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) for name in names)


def test_a_secret_may_come_as_a_file_by_the_name_of_its_variable(tmp_path: Path) -> None:
    """As values.yaml says: the paths are those at which the Secret is mounted."""
    rendered = helm.render(
        {
            "secrets": {"files": ["keys"]},
            "extraEnv": [{"name": "LIVEKIT_API_SECRET_FILE", "value": "/run/secrets/keys/secret"}],
        }
    )
    one = container(rendered)
    mounted = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    told = {variable["name"]: variable["value"] for variable in one["env"]}
    path = told["LIVEKIT_API_SECRET_FILE"]
    assert path.startswith(mounted["secret-keys"] + "/")

    (tmp_path / "secret").write_text("s" * 40 + "\n")
    written = tmp_path / "config.yaml"
    written.write_text(yaml.safe_dump(written_config(rendered)))
    environ = {"LIVEKIT_API_KEY": "APItest"}
    environ["LIVEKIT_API_SECRET_FILE"] = path.replace(mounted["secret-keys"], str(tmp_path))
    assert load(written, environ).keys["APItest"].get_secret_value() == "s" * 40


def test_two_releases_do_not_meet() -> None:
    rendered = helm.render(name="night")

    assert ("Service", "night-parley") in rendered.objects
    selector = rendered.objects["Service", "night-parley"]["spec"]["selector"]
    assert selector["app.kubernetes.io/instance"] == "night"


def test_the_configuration_is_mounted_where_the_gateway_looks() -> None:
    one = container(full())
    variables = {one["name"]: one["value"] for one in one["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}

    assert variables["GATEWAY_CONFIG"] == f"{mounts['config']}/config.yaml"
    assert mounts.keys() == {volume["name"] for volume in pod(full())["volumes"]}


def test_secrets_come_from_existing_objects_as_variables_or_files() -> None:
    assert "Secret" not in full().kinds
    assert container(plain())["envFrom"] == [{"secretRef": {"name": "parley"}}]
    names = [source.get("secretRef", {}).get("name") for source in container(full())["envFrom"]]
    assert names == ["parley", "providers", None]
    mounts = {mount["name"]: mount for mount in container(full())["volumeMounts"]}
    assert mounts["secret-provider-keys"]["mountPath"] == "/run/secrets/provider-keys"
    (volume,) = [v for v in pod(full())["volumes"] if v["name"] == "secret-provider-keys"]
    # the user of the container is in the group, and others may not read it
    assert volume["secret"]["defaultMode"] == 0o440


def test_the_number_of_pods_is_the_autoscalers_where_there_is_one() -> None:
    assert plain().one("Deployment")["spec"]["replicas"] == VALUES["replicas"]
    assert "replicas" not in full().one("Deployment")["spec"]


def test_the_autoscaler_asks_for_what_the_adapter_serves() -> None:
    adapter = yaml.safe_load((ROOT / "deploy/helm/prometheus-adapter.yaml").read_text())
    served = {rule["name"]["as"]: rule["metricsQuery"] for rule in adapter["rules"]["custom"]}
    asked = [
        metric["pods"]["metric"]["name"]
        for metric in full().one("HorizontalPodAutoscaler")["spec"]["metrics"]
    ]

    assert set(asked) == served.keys()


def test_an_engine_that_was_not_asked_weighs_nothing(tmp_path: Path) -> None:
    adapter = yaml.safe_load((ROOT / "deploy/helm/prometheus-adapter.yaml").read_text())
    (query,) = (
        rule["metricsQuery"]
        .replace("<<.GroupBy>>", "pod")
        .replace("<<.LabelMatchers>>", 'namespace="voice",pod=~"busy|idle"')
        for rule in adapter["rules"]["custom"]
        if rule["name"]["as"] == "parley_engine_queue_p99_seconds"
    )

    def series(name: str, values: str, **labels: str) -> dict[str, str]:
        told = ", ".join(f'{key}="{value}"' for key, value in labels.items())
        return {"series": f'{name}{{namespace="voice", {told}}}', "values": values}

    given = []
    for pod_name, rate in (("busy", 60), ("idle", 0)):
        given.append(series("parley_open_sessions", "5x10", pod=pod_name, route="bargein"))
        for model, late in (("interruption", rate), ("turn", 0)):
            of = {"pod": pod_name, "model": model}
            bucket = "parley_engine_queue_seconds_bucket"
            given.append(series(bucket, f"0+{rate - late}x10", **of, le="0.1"))
            given.append(series(bucket, f"0+{rate}x10", **of, le="0.2"))
            given.append(series(bucket, f"0+{rate}x10", **of, le="+Inf"))
    expected = [
        {"labels": '{pod="busy"}', "value": 0.199},
        {"labels": '{pod="idle"}', "value": 0},
    ]
    asked = {"expr": query, "eval_time": "10m", "exp_samples": expected}
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [asked]}
    written = tmp_path / "test.yml"
    written.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))

    done = subprocess.run(
        [needed("promtool"), "test", "rules", str(written)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_who_may_reach_which_port() -> None:
    def admitted(rendered: helm.Rendered) -> dict[str, list[Any]]:
        rules = rendered.one("NetworkPolicy")["spec"]["ingress"]
        return {rule["ports"][0]["port"]: rule["from"] for rule in rules}

    monitoring, controller = (
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]
        for name in ("monitoring", "ingress-nginx")
    )
    assert admitted(plain()) == {"http": [{"podSelector": {}}], "admin": monitoring}
    assert admitted(full()) == {"http": [PEER, *controller], "admin": monitoring}
    assert plain().one("NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]
    assert full().one("NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_prometheus_calls_the_job_as_the_dashboard_and_prometheus_yml_do() -> None:
    monitor = full().one("ServiceMonitor")["spec"]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    (endpoint,) = monitor["endpoints"]
    labels = full().objects["Service", "parley-admin"]["metadata"]["labels"]

    assert endpoint["relabelings"][0]["targetLabel"] == "job"
    assert endpoint["relabelings"][0]["replacement"] == scraped[0]["job_name"]
    assert endpoint["port"] == "admin"
    selected = monitor["selector"]["matchLabels"].items()
    assert selected <= labels.items()
    # or everything would be scraped twice
    assert not selected <= full().objects["Service", "parley"]["metadata"]["labels"].items()


def test_alerts_and_dashboard_are_those_of_the_repository() -> None:
    rules = full().one("PrometheusRule")["spec"]
    dashboard = full().objects["ConfigMap", "parley-dashboard"]["data"]["parley.json"]

    assert rules == yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
    assert dashboard == (ROOT / "deploy/grafana/dashboards/parley.json").read_text()


def test_the_ingress_publishes_inference_alone_and_lets_large_bodies_and_silence_pass() -> None:
    ingress = full().one("Ingress")
    noted = ingress["metadata"]["annotations"]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]

    assert (path["path"], path["pathType"]) == ("/v1", "Prefix")
    assert path["backend"]["service"] == {"name": "parley", "port": {"name": "http"}}
    body = int(noted["nginx.ingress.kubernetes.io/proxy-body-size"].removesuffix("m")) << 20
    assert body > LimitsConfig().chat_body_bytes
    assert noted["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(noted["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 60
    own = {"enabled": True, "host": "a.b", "annotations": {"c": "d"}}
    assert helm.render({"ingress": own}).one("Ingress")["metadata"]["annotations"] == {"c": "d"}


def test_the_notes_say_where_agents_go_and_what_is_missing() -> None:
    assert "LIVEKIT_INFERENCE_URL=http://parley.voice:8080/v1" in plain().notes
    assert "Usage records are lost with a pod" in plain().notes
    assert "Each pod counts quotas for itself" in plain().notes
    assert "LIVEKIT_INFERENCE_URL=https://voice.example.com/v1" in full().notes
    tls = {"certificate": "/run/secrets/tls/tls.crt", "key": "/run/secrets/tls/tls.key"}
    secured = helm.render({"config": {"server": {"tls": tls}}, "secrets": {"files": ["tls"]}})
    assert "LIVEKIT_INFERENCE_URL=https://parley.voice:8080/v1" in secured.notes
    assert "Usage records are lost" not in full().notes
    assert "quotas for itself" not in full().notes
