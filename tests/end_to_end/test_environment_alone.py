"""A server and an agent that were told everything by environment variables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.clients import Client
from tests.end_to_end.server import Server, running
from tests.fakes.openai_chat import FakeOpenAI

BASES = ["", "/", "/v1", "/v1/"]


@pytest.fixture(scope="module")
def openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(openai: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateway")
    environment = {
        "OPENAI_API_KEY": "key-of-openai",
        "OPENAI_BASE_URL": openai.base_url,
        "PARLEY_CACHE": str(folder / "no-models"),
    }
    with running(folder, environment=environment) as started:
        yield started


def test_a_stock_agent_gets_its_reply(client: Client, server: Server, openai: FakeOpenAI) -> None:
    openai.forget()

    events = client.drive(
        "drive_llm", "openai/gpt-4.1-mini::Hello", environment=server.agent_environment()
    )

    assert events[-1]["text"] == "Hello there, how can I help?"
    (request,) = openai.completions
    assert request.body["model"] == "gpt-4.1-mini"
    assert request.headers["authorization"] == "Bearer key-of-openai"


@pytest.mark.parametrize("base", BASES)
def test_every_way_of_writing_the_base_url_leads_there(server: Server, base: str) -> None:
    assert server.get(f"{base}/models")[0] == 401  # a route that exists and wants a token
    assert server.get(f"{base}/nothing")[0] == 404
