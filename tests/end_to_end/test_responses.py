"""The Responses API with the unmodified SDK of OpenAI: relayed, and served by chat completions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import openai
import pytest

from tests.end_to_end.clients import Client
from tests.end_to_end.conftest import installed
from tests.end_to_end.server import Server, running
from tests.fakes.openai_chat import WORDS as CHAT_WORDS
from tests.fakes.openai_chat import FakeOpenAI
from tests.fakes.openai_responses import WORDS, FakeResponses

RELAYED, SERVED, BOTH, TWO = "relayed", "served", "both", "two"
SAID = {RELAYED: "".join(WORDS), SERVED: "".join(CHAT_WORDS)}
TOOL: Any = {
    "type": "function",
    "name": "get_time",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture(scope="module")
def native() -> Iterator[FakeResponses]:
    with FakeResponses() as started:
        yield started


@pytest.fixture(scope="module")
def chat() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as started:
        yield started


@pytest.fixture(scope="module")
def server(
    native: FakeResponses, chat: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    config = (
        "local_stand_in: false\nproviders:\n"
        f"  native: {{type: openai, base_url: {native.base_url}, api_key: k, responses: true}}\n"
        f"  chat: {{type: openai-compatible, base_url: {chat.base_url}, api_key: k}}\n"
        "models:\n"
        "  relayed: [{provider: native, model: one}]\n"
        "  served: [{provider: chat, model: two}]\n"
        "  both: [{provider: native, model: one}, {provider: chat, model: two}]\n"
        "  two: [{provider: chat, model: two}, {provider: native, model: one}]\n"
    )
    with running(tmp_path_factory.mktemp("responses"), config) as started:
        yield started


@pytest.fixture(autouse=True)
def forget(native: FakeResponses, chat: FakeOpenAI) -> None:
    native.forget()
    chat.forget()


def token(server: Server) -> str:
    now = int(time.time())
    made = {"iss": server.api_key, "sub": "agent", "nbf": now, "exp": now + 600}
    made |= {"inference": {"perform": True}}
    return jwt.encode(made, server.api_secret, algorithm="HS256")


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=token(server), max_retries=0, timeout=60
    ) as made:
        yield made


async def told(sdk: openai.AsyncOpenAI, model: str, **more: Any) -> list[Any]:
    stream = await sdk.responses.create(model=model, input="hi", stream=True, **more)
    return [one async for one in stream]


@pytest.mark.parametrize("model", [RELAYED, SERVED])
async def test_an_answer_at_once(sdk: openai.AsyncOpenAI, model: str) -> None:
    response = await sdk.responses.create(model=model, input="hi", instructions="Be brief.")
    assert response.output_text == SAID[model]
    assert response.usage is not None
    assert response.usage.output_tokens in (6, 9)


@pytest.mark.parametrize("model", [RELAYED, SERVED])
async def test_a_stream(sdk: openai.AsyncOpenAI, model: str) -> None:
    async with sdk.responses.stream(model=model, input="hi") as stream:
        kinds = [event.type async for event in stream]
        response = await stream.get_final_response()
    assert response.output_text == SAID[model]
    assert kinds[:3] == [
        "response.created", "response.in_progress", "response.output_item.added",
    ]  # fmt: skip
    assert kinds[-1] == "response.completed"


@pytest.mark.parametrize("model", [RELAYED, SERVED])
async def test_a_call_and_its_result(
    sdk: openai.AsyncOpenAI, native: FakeResponses, chat: FakeOpenAI, model: str
) -> None:
    chat.script("tools")
    async with sdk.responses.stream(model=model, input="hi", tools=[TOOL]) as stream:
        first = await stream.get_final_response()
    call = next(one for one in first.output if one.type == "function_call")
    assert call.name == "get_time"
    assert call.arguments == '{"city":"Oslo"}'
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "noon"}
    second = await sdk.responses.create(
        model=model, input=[result], tools=[TOOL], previous_response_id=first.id
    )
    assert second.output_text == SAID[model]
    if model == RELAYED:
        sent = native.received[-1].body
        assert [one.get("type", "message") for one in sent["input"]] == [
            "message", "reasoning", "function_call", "function_call_output",
        ]  # fmt: skip
        assert "previous_response_id" not in sent
        assert sent["store"] is False
    else:
        sent = chat.completions[-1].body
        roles = [one["role"] for one in sent["messages"]]
        assert roles[:2] == ["user", "assistant"]
        assert roles[2] == "tool"


async def test_a_conversation_goes_on_with_the_other_form(
    sdk: openai.AsyncOpenAI, native: FakeResponses
) -> None:
    first = await sdk.responses.create(model=RELAYED, input="hi", tools=[TOOL])
    second = await sdk.responses.create(
        model=SERVED, input="and now?", previous_response_id=first.id
    )
    assert second.output_text == SAID[SERVED]
    assert second.previous_response_id == first.id
    third = await sdk.responses.create(model=RELAYED, input="again", previous_response_id=second.id)
    assert third.output_text == SAID[RELAYED]
    said = [one.get("role") for one in native.received[-1].body["input"] if one.get("role")]
    assert said == ["user", "assistant", "user", "assistant", "user"]


async def test_what_is_kept_can_be_read_and_deleted_by_its_key_alone(
    sdk: openai.AsyncOpenAI, server: Server
) -> None:
    made = await sdk.responses.create(model=SERVED, input="hi")
    assert (await sdk.responses.retrieve(made.id)).output_text == SAID[SERVED]
    items = await sdk.responses.input_items.list(made.id)
    assert [one.type or "message" for one in items.data] == ["message"] or items.data
    await sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        await sdk.responses.create(model=SERVED, input="hi", previous_response_id=made.id)
    forgotten = await sdk.responses.create(model=SERVED, input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(forgotten.id)


@pytest.mark.parametrize("scenario", ["failed", "cut", "garbage", "status:500", "status:401"])
async def test_what_fails_before_the_first_content_is_served_by_the_next(
    sdk: openai.AsyncOpenAI, native: FakeResponses, scenario: str
) -> None:
    native.script(scenario)
    found = await told(sdk, BOTH)
    assert [one.sequence_number for one in found] == list(range(len(found)))
    assert found[-1].response.output_text == SAID[SERVED]
    assert sum(one.type == "response.created" for one in found) == 1


@pytest.mark.parametrize("scenario", ["cut-after-content", "error-after-content"])
async def test_what_fails_after_the_first_content_of_a_relayed_answer_is_a_failed_response(
    sdk: openai.AsyncOpenAI, native: FakeResponses, scenario: str
) -> None:
    native.script(scenario)
    found = await told(sdk, RELAYED)
    assert [one.sequence_number for one in found] == list(range(len(found)))
    assert found[-1].type == "response.failed"
    assert found[-1].response.error.code == "server_error"
    assert found[-1].response.id == found[0].response.id


@pytest.mark.parametrize(
    "scenario", ["cut-after-content", "reset-after-content", "ends-without-finish"]
)
async def test_what_fails_after_the_first_content_of_a_served_answer_is_a_failed_response(
    sdk: openai.AsyncOpenAI, chat: FakeOpenAI, scenario: str
) -> None:
    chat.script(scenario)
    found = await told(sdk, SERVED)
    assert found[0].type == "response.created"
    assert found[-1].type == "response.failed"
    assert [one.sequence_number for one in found] == list(range(len(found)))


async def test_an_answer_that_is_cut_short_is_incomplete(
    sdk: openai.AsyncOpenAI, native: FakeResponses
) -> None:
    native.script("incomplete")
    found = await told(sdk, RELAYED, max_output_tokens=16)
    assert found[-1].type == "response.incomplete"
    assert found[-1].response.incomplete_details.reason == "max_output_tokens"
    assert native.received[-1].body["max_output_tokens"] == 16


@pytest.mark.parametrize(
    ("scenario", "error"),
    [("status:429", openai.RateLimitError), ("status:500", openai.InternalServerError)],
)
@pytest.mark.parametrize("model", [RELAYED, SERVED])
async def test_a_provider_that_fails_is_an_error_of_openais_form(
    sdk: openai.AsyncOpenAI,
    native: FakeResponses,
    chat: FakeOpenAI,
    model: str,
    scenario: str,
    error: type[openai.APIStatusError],
) -> None:
    for fake in (native, chat):
        fake.script(*[scenario] * 4)
    with pytest.raises(error) as raised:
        await sdk.responses.create(model=model, input="hi")
    assert raised.value.request_id


async def test_tools_that_a_vendor_runs_go_to_who_has_them(
    sdk: openai.AsyncOpenAI, native: FakeResponses
) -> None:
    with pytest.raises(openai.BadRequestError, match="web_search") as raised:
        await sdk.responses.create(model=SERVED, input="hi", tools=[{"type": "web_search"}])
    assert raised.value.param == "tools"
    found = await sdk.responses.create(model=TWO, input="hi", tools=[{"type": "web_search"}])
    assert found.output_text == SAID[RELAYED]
    assert native.received[-1].body["tools"] == [{"type": "web_search"}]


async def test_requests_are_recorded_as_chat_is(sdk: openai.AsyncOpenAI, server: Server) -> None:
    before = server.metric("parley_requests_total", route="chat")
    await sdk.responses.create(model=SERVED, input="hi")
    assert server.metric("parley_requests_total", route="chat") == before + 1


@pytest.mark.parametrize("model", [RELAYED, SERVED])
async def test_a_websocket(
    sdk: openai.AsyncOpenAI, server: Server, chat: FakeOpenAI, model: str
) -> None:
    before = server.metric("parley_requests_total", route="chat")
    async with sdk.responses.connect() as connection:
        await connection.response.create(model=model, input="hi", store=False)
        first = await ended(connection)
        assert first.type == "response.completed"
        # kept for this connection alone
        await connection.response.create(
            model=model, input="and?", previous_response_id=first.response.id, store=False
        )
        second = await ended(connection)
        assert second.response.output_text == SAID[model]
        await connection.response.create(model="nobody", input="x")
        error = await ended(connection)
        assert error.status == 404
        assert error.error.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="not found"):
            await sdk.responses.create(
                model=model, input="x", previous_response_id=second.response.id
            )
    assert server.metric("parley_requests_total", route="chat") == before + 4


async def ended(connection: Any) -> Any:
    """The last event of a response."""
    while True:
        event = await connection.recv()
        if event.type in (
            "response.completed", "response.failed", "response.incomplete", "error",
        ):  # fmt: skip
            return event


async def test_lanes_of_a_websocket_are_told_apart(sdk: openai.AsyncOpenAI) -> None:
    async with sdk.responses.connect() as connection:
        for lane in ("a", "b"):
            await connection.send(
                {"type": "response.create", "model": SERVED, "input": "hi", "stream_id": lane}
            )
        found = {(await ended(connection)).stream_id for _ in range(2)}
    assert found == {"a", "b"}


async def test_input_can_be_handed_in_without_an_answer(
    sdk: openai.AsyncOpenAI, chat: FakeOpenAI
) -> None:
    async with sdk.responses.connect() as connection:
        await connection.send(
            {"type": "response.create", "model": SERVED, "input": "hi", "generate": False}
        )
        first = await ended(connection)
        assert not chat.completions
        await connection.response.create(
            model=SERVED, input="and?", previous_response_id=first.response.id
        )
        assert (await ended(connection)).type == "response.completed"
    assert [one["content"] for one in chat.completions[-1].body["messages"]] == ["hi", "and?"]


async def test_a_client_that_leaves_ends_the_providers_answer(
    sdk: openai.AsyncOpenAI, chat: FakeOpenAI, server: Server
) -> None:
    chat.script("endless")
    async with sdk.responses.connect() as connection:
        await connection.response.create(model=SERVED, input="hi")
        await connection.recv()
    assert chat.wait_until(lambda: chat.completions[-1].disconnected_early)


async def test_without_a_token_nobody_comes_in(server: Server) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="x", max_retries=0
    ) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.responses.create(model=SERVED, input="hi")
        with pytest.raises(openai.AuthenticationError):
            await stranger.responses.retrieve("resp_1")
        with pytest.raises(Exception, match="401"):
            async with stranger.responses.connect():
                pass


PLUGIN = Client("livekit-plugins-tts-1.8.9", "python", ("livekit-plugins-tts-1.8.9.txt",))


@pytest.mark.parametrize("form", ["websocket", "http"])
@pytest.mark.parametrize("model", [RELAYED, SERVED])
def test_livekits_own_client_goes_on_with_what_is_kept(
    server: Server, native: FakeResponses, chat: FakeOpenAI, model: str, form: str
) -> None:
    client = installed(PLUGIN)
    chat.script("tools")
    url = f"{server.url}/v1" + ("/responses" if form == "websocket" else "")
    more = [] if form == "websocket" else ["--no-websocket"]
    events = client.drive(
        "drive_responses", url, token(server), model, "--tools", *more, environment={}
    )
    answered = [one for one in events if one["event"] == "answered"]
    assert [set(one["calls"]) for one in answered] == [{"get_time"}, set()], events
    assert answered[1]["text"] == SAID[model]
    assert [one["event"] for one in events].count("usage") == 2
    if model == RELAYED:
        # the client sent the result alone; the provider got the whole conversation
        sent = [one.get("type") or one["role"] for one in native.received[-1].body["input"]]
        assert sent[-2:] == ["function_call", "function_call_output"]
