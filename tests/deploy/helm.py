"""Renders the chart with Helm's own engine.

It runs in a process of its own: it is a Go program in a shared library, and its runtime is not to
live in the one that runs the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy/helm/parley"
TIMEOUT_S = 120

_PROGRAM = """
import json, sys
import helm_python as helm
told = json.load(sys.stdin)
try:
    if told["lint"]:
        answer = helm.lint(told["chart"], told["values"], strict=True)
    else:
        with helm.Chart.load(told["chart"]) as chart:
            chart.validate_schema(told["values"])
            answer = chart.render(told["values"], name=told["name"], namespace=told["namespace"])
except helm.HelmError as error:
    answer = {"error": str(error)}
json.dump(answer, sys.stdout)
"""


class HelmError(Exception):
    """Helm refuses the values or the chart; says what `helm install` would."""


@dataclass(frozen=True)
class Rendered:
    """What `helm template` prints: objects by kind and name, and the notes."""

    objects: dict[tuple[str, str], dict[str, Any]]
    notes: str

    def one(self, kind: str) -> dict[str, Any]:
        """The only object of a kind."""
        (found,) = [one for (of, _), one in self.objects.items() if of == kind]
        return found

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.objects}


def render(
    values: dict[str, Any] | None = None, *, name: str = "parley", namespace: str = "voice"
) -> Rendered:
    """Raises HelmError, for values that the schema refuses too."""
    texts = _ask({"lint": False, "values": values or {}, "name": name, "namespace": namespace})
    if "error" in texts:
        raise HelmError(texts["error"])
    objects = {}
    for path, text in texts.items():
        if path.endswith(".yaml"):
            for one in yaml.safe_load_all(text):
                if one is not None:
                    at = (one["kind"], one["metadata"]["name"])
                    assert at not in objects, f"two of {at}"
                    objects[at] = one
    return Rendered(objects, texts["parley/templates/NOTES.txt"])


def lint(values: dict[str, Any]) -> list[str]:
    """What `helm lint --strict` finds; advice (severity 1) is left out."""
    answer = _ask({"lint": True, "values": values})
    return [one["error"] for one in answer["messages"] if one["severity"] > 1]


def _ask(told: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps({"chart": str(CHART), **told}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
