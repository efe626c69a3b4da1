"""Embeddings by OpenAI's SDK through the real server, from fake providers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import openai
import pytest

from gateway.conversations.chat.embeddings_route import usage_of
from gateway.server.auth import mint
from gateway.upstreams.chat import Usage
from tests.end_to_end.server import Server, running
from tests.fakes.openai_chat import FakeOpenAI

MODEL = "openai/text-embedding-3-small"


@pytest.fixture(scope="module")
def providers() -> Iterator[tuple[FakeOpenAI, FakeOpenAI]]:
    with ExitStack() as stack:
        first = stack.enter_context(FakeOpenAI())
        yield first, stack.enter_context(FakeOpenAI(default="calm"))


@pytest.fixture(scope="module")
def server(
    providers: tuple[FakeOpenAI, FakeOpenAI], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    first, second = providers
    config = f"""
providers:
  openai: {{api_key: x, base_url: "{first.base_url}"}}
  spare: {{type: openai-compatible, base_url: "{second.base_url}"}}
  anthropic: {{api_key: x}}
models:
  both:
    - {{provider: openai, model: one, options: {{dimensions: 8}}}}
    - {{provider: spare, model: two}}
usage: {{enabled: false}}
"""
    with running(tmp_path_factory.mktemp("embeddings"), config) as started:
        yield started


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key=token, max_retries=0, timeout=60) as client:
        yield client


def test_texts_are_embedded_and_their_tokens_counted(
    sdk: openai.OpenAI, server: Server, providers: tuple[FakeOpenAI, FakeOpenAI]
) -> None:
    made = sdk.embeddings.create(model=MODEL, input=["one", "three"], encoding_format="float")
    assert [one.embedding for one in made.data] == [[3.0], [5.0]]
    assert made.usage.prompt_tokens == 2
    (sent,) = [one for one in providers[0].received if one.path.endswith("/embeddings")]
    assert sent.body["model"] == "text-embedding-3-small"
    assert sent.headers["authorization"] == "Bearer x"
    assert server.metric("parley_tokens_total", provider="openai", kind="prompt") == 2
    assert server.metric("parley_requests_total", route="embeddings", outcome="ok") == 1


def test_the_next_deployment_is_asked_when_one_fails(
    sdk: openai.OpenAI, providers: tuple[FakeOpenAI, FakeOpenAI]
) -> None:
    made = sdk.embeddings.create(model="both", input="busy", encoding_format="float")
    assert made.data[0].embedding == [4.0]
    (sent,) = [one for one in providers[1].received if one.path.endswith("/embeddings")]
    assert sent.body["model"] == "two"
    assert "dimensions" not in sent.body


def test_who_makes_none_is_not_asked_and_who_is_alone_and_fails_is_told(
    sdk: openai.OpenAI,
) -> None:
    with pytest.raises(openai.APIStatusError, match="makes embeddings") as unable:
        sdk.embeddings.create(model="anthropic/claude-sonnet-4-5", input="x")
    assert unable.value.status_code < 500
    with pytest.raises(openai.APIStatusError) as busy:
        sdk.embeddings.create(model=MODEL, input="busy")
    assert busy.value.status_code >= 500
    with pytest.raises(openai.NotFoundError):
        sdk.embeddings.create(model="nobody/x", input="x")


async def test_what_nobody_waits_for_ends_at_the_provider_and_is_counted_as_left(
    server: Server, providers: tuple[FakeOpenAI, FakeOpenAI]
) -> None:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    url, first = f"{server.url}/v1", providers[0]
    first.forget()
    async with openai.AsyncOpenAI(base_url=url, api_key=token, max_retries=0) as client:
        asking = asyncio.create_task(client.embeddings.create(model=MODEL, input="endless"))
        assert await asyncio.to_thread(first.wait_until, lambda: first.received)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        asked = first.received[-1]
        assert await asyncio.to_thread(first.wait_until, lambda: asked.disconnected_early)
    text = await asyncio.to_thread(server.logged, '"outcome":"left"')
    line = next(line for line in text.splitlines() if '"outcome":"left"' in line)
    assert '"estimated":true' in line


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"usage": 1}',
        b'{"usage": {"prompt_tokens": "x"}}',
        b'{"usage": {"prompt_tokens": true}}',
        b'{"usage": {"prompt_tokens": 9223372036854775808}}',
        b'{"usage": {"prompt_tokens": 3, "broken"}}',
        b'{"data": "\\"usage\\": {\\"prompt_tokens\\": 3}"}',
    ],
)
def test_an_answer_that_tells_no_tokens_is_passed_on_uncounted(answer: bytes) -> None:
    assert usage_of(answer) is None
    assert usage_of(b'{"usage": {"prompt_tokens": 3}}') == Usage(3, 0)
    assert usage_of(b'{"data":[' + b"1.5," * 99 + b'1],"usage" : {"prompt_tokens": 4}}') == Usage(
        4, 0
    )
