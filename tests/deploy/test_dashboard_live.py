"""A real Prometheus scrapes the real server under traffic: no panel of the dashboard is empty."""

from __future__ import annotations

import asyncio
import json
import math
import struct
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.server.auth import mint
from tests import services
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model
from tests.fakes.openai_chat import FakeOpenAI
from tests.ports import Port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/parley.json").read_text())
QUERIES = [
    (panel["title"], target["expr"])
    for panel in DASHBOARD["panels"]
    if panel["type"] != "row"
    for target in panel["targets"]
]
SCRAPES = 4
SCRAPE_S = 1
WINDOW = struct.pack("<Q", 5) + b"\1\0" * 16_000
VARIABLES = {
    "$__rate_interval": "30s",
    "$__range": "5m",
    "$instance": ".+",
    "$route": ".+",
}


class Prometheus:
    """Asks a running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=30) as response:
            return json.loads(response.read())["data"]

    def values(self, promql: str) -> list[float]:
        """The value of each line now."""
        for variable, chosen in VARIABLES.items():
            promql = promql.replace(variable, chosen)
        return [float(one["value"][1]) for one in self.get("/api/v1/query", query=promql)["result"]]


@pytest.fixture(scope="module")
def program() -> str:
    return services.needed("prometheus")


@pytest.fixture(scope="module")
def upstreams(program: str) -> Iterator[dict[str, str]]:
    with FakeOpenAI() as fake:
        yield {"url": f"{fake.url}/v1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, str]) -> Iterator[Server]:
    """Two names for one provider, so that a second one exists when the first fails."""
    folder = tmp_path_factory.mktemp("live")
    model = frame_model.write(folder / "m.onnx")
    config = f"""
usage: {{url: "sqlite:{folder}/usage.db", flush_s: 0.5}}
bargein: {{model: {model}}}
providers:
  first: {{type: openai-compatible, base_url: "{upstreams["url"]}", api_key: sk-test}}
  second: {{type: openai-compatible, base_url: "{upstreams["url"]}", api_key: sk-test}}
models:
  good:
    - {{provider: first, model: text}}
  falls-back:
    - {{provider: first, model: "status:500"}}
    - {{provider: second, model: text}}
  fails:
    - {{provider: first, model: "status:500"}}
  hedged:
    - {{provider: first, model: "slow-first-token:2"}}
    - {{provider: second, model: text}}
chat:
  hedge: {{enabled: true, after_s: 0.4, at_least_s: 0.1, share_max: 1}}
"""
    with running(folder, config) as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, program: str, server: Server
) -> Iterator[Prometheus]:
    """With deploy/prometheus.yml, the gateway's address and a shorter interval put in."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    config["rule_files"] = [str(ROOT / "deploy" / name) for name in config["rule_files"]]
    config["scrape_configs"] = config["scrape_configs"][:1]
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [server.admin_url.removeprefix("http://")]}
    ]
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config))
    command = [program, f"--config.file={written}", f"--storage.tsdb.path={folder}/data"]
    with ExitStack() as stack:
        port = stack.enter_context(Port()).number
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            running = Prometheus(port)
            wait_for(lambda: running.get("/api/v1/status/runtimeinfo"))
            yield running
        finally:
            process.terminate()
            process.wait(services.STOP_TIMEOUT_S)


def wait_for(found: Any, timeout_s: float = services.START_TIMEOUT_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if value := found():
                return value
        except OSError:
            pass
        assert time.monotonic() < deadline, "Prometheus did not get there in time"
        time.sleep(0.1)


async def call_everything(server: Server) -> None:
    """Each kind of request once, good and bad."""
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=60)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def chat(model: str) -> None:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": "Hello"}],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            async with http.post(f"{server.url}/chat/completions", json=body) as answer:
                await answer.read()

        async def interrupt() -> None:
            async with http.ws_connect(f"{server.url}/bargein") as socket:
                settings = {"sample_rate": 16000, "num_channels": 1, "min_frames": 2}
                await socket.send_json({"type": "session.create", "settings": settings})
                await socket.receive_json()
                await socket.send_bytes(WINDOW)
                await socket.receive_json()

        await asyncio.gather(*map(chat, ("good", "falls-back", "fails", "hedged", "unknown")))
        await interrupt()
        async with http.post(f"{server.url}/bargein", data=WINDOW[8:]) as answer:
            await answer.read()
        async with http.get(f"{server.url}/models", headers={"Authorization": "no"}) as answer:
            assert answer.status == 401
        turn = {"items": [{"type": "message", "role": "user", "content": ["Hello there."]}]}
        async with http.post(f"{server.url}/eot/multi", json=turn) as answer:
            await answer.read()


@pytest.fixture(scope="module")
def scraped(server: Server, prometheus: Prometheus) -> Prometheus:
    """Prometheus, after traffic over several scrapes: a rate needs two values."""
    scrapes = 'count_over_time(up{job="parley"}[5m])'
    asyncio.run(call_everything(server))
    wait_for(lambda: prometheus.values('sum(parley_requests_total{outcome="ok"})'))
    seen = prometheus.values(scrapes)[0]
    asyncio.run(call_everything(server))
    wait_for(lambda: prometheus.values(scrapes)[0] >= seen + SCRAPES)
    return prometheus


OF_SPEECH = (
    "Texts of /tts in its cache",
    "First audio of voices",
    "What recognisers take",
    "Standbys of recognisers",
    "Until an interruption was decided",
    "Until an interruption was decided, by version",
    "Bounds that callers came to",
)
"""Panels that stay empty here, where nobody speaks and nobody comes to a bound."""


@pytest.mark.parametrize(("title", "query"), [one for one in QUERIES if one[0] not in OF_SPEECH])
def test_a_panel_shows_something(scraped: Prometheus, title: str, query: str) -> None:
    values = scraped.values(query)

    assert values, f"{title}: no line"
    assert any(math.isfinite(value) for value in values), f"{title}: only {values}"


def test_the_choices_of_the_dashboard_are_filled(scraped: Prometheus) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["definition"][len("label_values(") : -1].split(", ")
            assert scraped.get(f"/api/v1/label/{label}/values", **{"match[]": metric})


def test_the_alerts_are_computed_without_errors(scraped: Prometheus) -> None:
    wait_for(
        lambda: all(
            rule["health"] == "ok"
            for group in scraped.get("/api/v1/rules")["groups"]
            for rule in group["rules"]
        )
    )
