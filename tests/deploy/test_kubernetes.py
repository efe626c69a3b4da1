"""deploy/kubernetes.yaml: valid, closed, and patient with open sessions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway import __version__
from gateway.config import load
from gateway.serve import CLOSE_S
from gateway.settings.server import ServerConfig

ROOT = Path(__file__).parents[2]
DOCUMENTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
)
BY_KIND = {document["kind"]: document for document in DOCUMENTS}
POD: dict[str, Any] = BY_KIND["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_it_follows_the_published_schemas(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_container_is_closed() -> None:
    context = CONTAINER["securityContext"]

    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False


def test_it_runs_as_the_image_does() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    context = POD["securityContext"]

    assert user is not None
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert CONTAINER["image"].endswith(f":{__version__}")


def test_open_sessions_may_end_before_the_pod_is_killed(tmp_path: Path) -> None:
    written = tmp_path / "config.yaml"
    written.write_text(BY_KIND["ConfigMap"]["data"]["config.yaml"])
    config = load(written, {"LIVEKIT_API_KEY": "APItest", "LIVEKIT_API_SECRET": "s" * 40})
    pause_s = float(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])

    needed_s = pause_s + config.server.shutdown_grace_s + CLOSE_S
    assert needed_s < POD["terminationGracePeriodSeconds"] <= needed_s + 60


def test_the_probes_ask_what_they_are_for() -> None:
    (port,) = CONTAINER["ports"]
    paths = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness")}

    assert port["containerPort"] == ServerConfig().port
    assert {get["path"] for get in paths.values()} == {"/readyz"}
    # a draining gateway is not ready, but it must live on
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert BY_KIND["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]


def test_the_labels_lead_from_service_and_budget_to_the_pods() -> None:
    labels = BY_KIND["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert BY_KIND["Service"]["spec"]["selector"].items() <= labels.items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert BY_KIND[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_configuration_is_mounted_where_the_gateway_looks() -> None:
    variables = {one["name"]: one["value"] for one in CONTAINER["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}

    assert variables["GATEWAY_CONFIG"] == f"{mounts['config']}/config.yaml"
