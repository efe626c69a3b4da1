"""Fixtures: the clients' environments and a server in front of fake providers."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from tests.end_to_end import make_recordings, make_turns
from tests.end_to_end.clients import CLIENTS, Client
from tests.end_to_end.make_recordings import made_folder
from tests.end_to_end.server import Server, running
from tests.fakes.openai_chat import FakeOpenAI

RECORDINGS = Path(__file__).parent / "recordings"
"""What is in each recording; they themselves are made when needed, see make_recordings.py."""
FIRST_TOKEN_TIMEOUT_S = 18.0  # more than the 12 s that a slow first token takes

# What the first provider of each model does; GOOD is the second one where there is a second one.
FALLING_BACK = {
    "refused": "refused",
    "status-500": "status:500",
    "status-429": "rate-limited:seconds:30",
    "status-401": "status:401",
    "status-499": "status:499",
    "reset-before-headers": "reset-before-headers",
    "reset-before-content": "reset-before-content",
    "cut-before-content": "cut-before-content",
    "ends-before-content": "ends-before-content",
    "error-before-content": "error-before-content",
    "stalled": "hang-before-first-token",
    "garbage": "garbage",
    "html": "html",
    "named": "status:500",
}
ALONE = {
    "reset-after-content": "reset-after-content",
    "cut-after-content": "cut-after-content",
    "cut-in-event": "cut-in-event",
    "ends-without-finish": "ends-without-finish",
    "error-after-content": "error-after-content",
    "bad-request": "status:400",
    "bad-key": "status:401",
    "cancelled-upstream": "status:499",
    "slow": "slow-first-token:12",
    "slow-headers": "slow-headers:12",
    "endless": "endless",
    "gemini": "gemini-signature",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = metafunc.definition.iter_markers("parametrize")
    chosen = any("client" in mark.args[0] for mark in marks if not isinstance(mark.args[0], str))
    if "client" in metafunc.fixturenames and not chosen:
        metafunc.parametrize("client", CLIENTS, ids=named, indirect=True)


def named(value: Client | str) -> str:
    """What a test's parameter is called in its name."""
    return value if isinstance(value, str) else value.name


def each_client(
    name: str, values: Iterable[str], current_only: Iterable[str]
) -> pytest.MarkDecorator:
    """Parametrizes `client` and `name`: each client with `values`, the newest with all."""
    pairs = [*product(CLIENTS, values), *product(CLIENTS[:1], current_only)]
    return pytest.mark.parametrize(("client", name), pairs, ids=named, indirect=["client"])


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Client:
    """One of the real client packages, installed."""
    return installed(request.param)


@pytest.fixture(scope="module")
def current_client() -> Client:
    """The newest Python client, installed."""
    return installed(CLIENTS[0])


@pytest.fixture(scope="module")
def node_client() -> Client:
    """The Node client, installed."""
    return installed(next(client for client in CLIENTS if client.kind == "node"))


def installed(client: Client) -> Client:
    """Make its environment, or skip where that was asked for."""
    if os.environ.get("PARLEY_SKIP_CLIENTS") == "1":
        pytest.skip("PARLEY_SKIP_CLIENTS=1 is set: NO REAL CLIENT WAS TRIED")
    client.ensure()
    return client


@dataclass
class Upstreams:
    """The fake providers by name."""

    good: FakeOpenAI
    others: dict[str, FakeOpenAI]

    def __getitem__(self, name: str) -> FakeOpenAI:
        return self.good if name == "good" else self.others[name]

    def config(self) -> str:
        """Providers and models as the configuration file says them."""
        lines = ["log: {format: console}"]
        if other := os.environ.get("PARLEY_TEST_BARGEIN_MODEL"):
            lines.append(f"bargein: {{model: {other}}}")
        lines.append("chat:")
        lines += [f"  first_token_timeout_s: {FIRST_TOKEN_TIMEOUT_S}", "providers:"]
        for name, fake in {"good": self.good, **self.others}.items():
            base = f"base_url: {fake.base_url}, api_key: key-of-{name}"
            vendor = "google" if name == "gemini" else "openai-compatible"
            lines.append(f"  {name}: {{type: {vendor}, {base}}}")
        lines += [
            "models:",
            "  openai/gpt-4.1-mini:",
            "    - {provider: good, model: gpt-4.1-mini}",
        ]
        for name in self.others:
            lines += [f"  test/{name}:", f"    - {{provider: {name}, model: first}}"]
            if name in FALLING_BACK:
                lines += ["    - {provider: good, model: second}"]
        return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Upstreams]:
    with ExitStack() as stack:
        good = stack.enter_context(FakeOpenAI())
        others = {
            name: stack.enter_context(FakeOpenAI(default=scenario.replace("refused", "text")))
            for name, scenario in {**FALLING_BACK, **ALONE}.items()
        }
        others["refused"].refuse()
        yield Upstreams(good, others)


@pytest.fixture(scope="session")
def server(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The gateway in front of all the fake providers."""
    with running(tmp_path_factory.mktemp("gateway"), upstreams.config()) as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def _recordings_made() -> None:
    make_recordings.make()
    make_turns.make()


@dataclass(frozen=True)
class Recording:
    """A scene that a client plays, and what stands in it."""

    path: Path
    label: str
    onset_s: float
    end_s: float

    @property
    def argument(self) -> str:
        return f"{self.path}:{self.onset_s}:{self.end_s}"


def recordings() -> list[Recording]:
    with (RECORDINGS / "recordings.csv").open(newline="") as file:
        return [
            Recording(
                made_folder() / row["file"],
                row["label"],
                float(row["onset_s"]),
                float(row["end_s"]),
            )
            for row in csv.DictReader(file)
        ]
