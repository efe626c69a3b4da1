"""The routes /eot and /eot/multi of the real server, with a tiny model."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from livekit.protocol.agent_pb import agent_inference as pb
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model, turn_model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("eot")
    interruption = frame_model.write(folder / "interruption.onnx")
    turn = turn_model.write(folder / "turn.onnx")
    config = f"bargein: {{model: {interruption}}}\neot: {{model: {turn}}}\n"
    with running(folder, config) as started:
        yield started


@pytest.fixture(scope="module")
def modelless_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has no model, and hears itself as a stranger."""
    folder = tmp_path_factory.mktemp("bare")
    interruption = frame_model.write(folder / "interruption.onnx")
    config = f"bargein: {{model: {interruption}}}\neot: {{anonymous_networks: [10.0.0.0/8]}}\n"
    with running(folder, config, {"PARLEY_CACHE": str(folder)}) as started:
        yield started


def connected(server: Server, path: str = "/eot", *, token: str | None = None) -> connect:
    if token is None:
        token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=60)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = server.url.replace("http", "ws", 1) + path
    return connect(url, additional_headers=headers, ping_interval=None)


async def say(socket: ClientConnection, **said: object) -> None:
    await socket.send(pb.ClientMessage(**said).SerializeToString())  # type: ignore[arg-type]


async def told(socket: ClientConnection) -> pb.ServerMessage:
    data = await socket.recv()
    assert isinstance(data, bytes)
    return pb.ServerMessage.FromString(data)


async def created(socket: ClientConnection) -> pb.SessionCreated:
    settings = pb.SessionSettings(sample_rate=16000, encoding=pb.AUDIO_ENCODING_PCM_S16LE)
    await say(socket, session_create=pb.SessionCreate(settings=settings))
    return (await told(socket)).session_created


async def hear(socket: ClientConnection, last: int, samples: int = 800) -> None:
    audio = np.zeros(samples, np.int16)
    audio[-1] = last
    await say(socket, input_audio=pb.InputAudio(audio=audio.tobytes(), num_samples=samples))


async def predicted(socket: ClientConnection, request_id: str) -> pb.EotPrediction:
    await say(socket, inference_start=pb.InferenceStart(request_id=request_id))
    message = await told(socket)
    assert message.request_id == request_id
    return message.eot_prediction


@pytest.mark.parametrize("path", ["/eot", "/v1/eot", "//eot"])
async def test_a_session_is_created_hears_predicts_flushes_and_closes(
    server: Server, path: str
) -> None:
    async with connected(server, path) as socket:
        thresholds = await created(socket)
        assert thresholds.default_threshold == pytest.approx(0.4)
        assert dict(thresholds.default_thresholds) == pytest.approx({"en": 0.4, "de": 0.3})

        await hear(socket, 16384)
        found = await predicted(socket, "r1")
        assert found.probability == pytest.approx(0.5)
        assert found.inference_stats.inference_duration.ToNanoseconds() > 0

        await say(socket, session_flush=pb.SessionFlush())
        assert (await predicted(socket, "r2")).probability == 1.0  # nothing was heard since
        await hear(socket, 8192)
        assert (await predicted(socket, "r3")).probability == pytest.approx(0.25)

        await say(socket, session_close=pb.SessionClose())
        assert (await told(socket)).WhichOneof("message") == "session_closed"


async def test_sessions_side_by_side_do_not_hear_each_other(server: Server) -> None:
    async with connected(server) as one, connected(server) as other:
        for socket, last in ((one, 3277), (other, 13107)):
            await created(socket)
            await hear(socket, last)
        for socket in (one, other):
            await say(socket, inference_start=pb.InferenceStart(request_id="r"))
        found = [(await told(socket)).eot_prediction.probability for socket in (one, other)]

    assert found == pytest.approx([0.1, 0.4], abs=1e-3)


async def test_a_client_that_leaves_in_the_middle_harms_nobody(server: Server) -> None:
    async with connected(server) as leaving:
        await created(leaving)
        await hear(leaving, 1)
        await say(leaving, inference_start=pb.InferenceStart(request_id="r"))
        leaving.transport.abort()
    async with connected(server) as staying:
        await created(staying)
        await hear(staying, 16384)
        assert (await predicted(staying, "r")).probability == pytest.approx(0.5)


async def test_a_broken_message_is_answered_with_an_error_and_a_close(server: Server) -> None:
    async with connected(server) as socket:
        await socket.send("{}")
        error = (await told(socket)).error
        assert error.code == 400
        assert "expected binary livekit.agent.ClientMessage" in error.message
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_a_message_beyond_the_limit_ends_the_session(server: Server) -> None:
    async with connected(server) as socket:
        await created(socket)
        with suppress(ConnectionClosedError):
            await hear(socket, 1, samples=1 << 20)
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_nobody_enters_without_a_token(server: Server, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(server, token=token):
            pass
    assert refused.value.response.status_code == 401


async def test_without_a_model_the_handshake_is_refused_with_the_remedy(
    modelless_server: Server,
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(modelless_server):
            pass

    response = refused.value.response
    assert response.status_code == 503
    body = json.loads(response.body or b"")
    assert "gateway models fetch smart-turn" in body["error"]["message"]


def post(
    server: Server, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        server.url + "/v1/eot/multi", body, {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


CONVERSATION = b'{"items": [{"type": "message", "role": "user", "content": ["I want"]}]}'


def test_without_a_text_model_there_is_no_prediction_and_no_language(server: Server) -> None:
    assert post(server, CONVERSATION) == (200, {"probability": -1.0})
    assert post(server, b'{"language": "en-US"}') == (200, {"threshold": None})
    assert server.logged("no text model is configured").count("no text model is configured") == 1


def test_a_body_that_is_no_request_is_a_clear_error(server: Server) -> None:
    status, body = post(server, b'{"items": 3}')

    assert status == 400
    assert body["error"]["param"] == "items"


def test_a_body_beyond_the_limit_is_refused(server: Server) -> None:
    assert post(server, b" " * ((1 << 20) + 1))[0] == 413


def test_a_wrong_token_is_refused_even_where_none_is_needed(server: Server) -> None:
    assert post(server, CONVERSATION, {"Authorization": "Bearer nonsense"})[0] == 401


def test_other_networks_need_a_token(modelless_server: Server) -> None:
    token = mint(modelless_server.api_key, modelless_server.api_secret, identity="agent", ttl_s=60)

    assert post(modelless_server, CONVERSATION)[0] == 401
    assert post(modelless_server, CONVERSATION, {"Authorization": f"Bearer {token}"})[0] == 200


def test_no_other_route_is_open_to_the_anonymous(server: Server) -> None:
    request = urllib.request.Request(server.url + "/bargein?threshold=0.5", b"\0\0" * 1600)

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)

    refused.value.close()
    assert refused.value.code == 401


async def test_answers_are_counted(server: Server) -> None:
    before = server.metric("parley_eot_answers_total", input="audio", verdict="finished")
    async with connected(server) as socket:
        await created(socket)
        await hear(socket, 30000)
        await predicted(socket, "r")

    after = server.metric("parley_eot_answers_total", input="audio", verdict="finished")
    assert after == before + 1
    assert server.metric("parley_engine_inference_seconds_count", model="turn") > 0
    assert server.metric("parley_requests_total", route="eot_multi") > 0


def test_readiness_says_which_models_there_are(server: Server, modelless_server: Server) -> None:
    eot = json.loads(server.get("/readyz")[1])["eot"]
    assert eot == {"model": "last-sample", "version": "test", "text_model": None}
    assert "gateway models fetch" in json.loads(modelless_server.get("/readyz")[1])["eot"]["reason"]
