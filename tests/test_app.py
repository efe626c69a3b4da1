"""The real server over real sockets: bad input, limits, operations."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import WSMsgType
from fastapi import FastAPI
from starlette.routing import Route

from gateway.app import Front
from gateway.serve import TlsError, check_tls
from gateway.server.asgi import Message, Receive, Scope, Send
from gateway.server.auth import mint
from gateway.settings.server import TlsConfig
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model
from tests.services import needed

CREATE = {"type": "session.create", "settings": {"sample_rate": 16000, "num_channels": 1}}
WINDOW = struct.pack("<Q", 5) + b"\1\0" * 1600


def token(server: Server, **claims: object) -> str:
    now = int(time.time())
    return jwt.encode(
        {
            "iss": server.api_key,
            "sub": "agent",
            "nbf": now,
            "exp": now + 600,
            "inference": {"perform": True},
            **claims,
        },
        server.api_secret,
        algorithm="HS256",
    )


def bearer(server: Server, **claims: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(server, **claims)}"}


def stranger(server: Server) -> dict[str, str]:
    return {"Authorization": "Bearer " + mint(server.api_key, "x" * 40, identity="a", ttl_s=60)}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield session


WRONG_TOKENS = {
    "none": lambda server: {},
    "no bearer": lambda server: {"Authorization": "Basic eDp5"},
    "expired": lambda server: bearer(server, exp=int(time.time()) - 60),
    "not yet valid": lambda server: bearer(server, nbf=int(time.time()) + 60),
    "foreign key": lambda server: bearer(server, iss="APIforeign"),
    "wrong secret": stranger,
}


@pytest.mark.parametrize("path", ["/stt", "/tts", "/eot", "/bargein", "/v1/stt"])
def test_a_request_whose_upgrade_was_dropped_on_the_way_hears_that(
    bare_server: Server, path: str
) -> None:
    status, body = bare_server.get(path)
    assert status == 426
    assert "`Upgrade: websocket`" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("wrong", WRONG_TOKENS)
@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_who_has_no_good_token_does_not_enter_any_route(
    bare_server: Server, http: aiohttp.ClientSession, wrong: str, prefix: str
) -> None:
    headers = WRONG_TOKENS[wrong](bare_server)
    base = bare_server.url + prefix
    for method, path in (("POST", "/chat/completions"), ("GET", "/models"), ("POST", "/bargein")):
        async with http.request(method, base + path, headers=headers) as response:
            assert response.status == 401
            assert (await response.json())["error"]["type"] == "authentication_error"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(base + "/bargein", headers=headers)
    assert refused.value.status == 401


async def test_a_token_without_the_grant_is_refused_with_403_before_the_upgrade(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    headers = bearer(bare_server, inference={"perform": False})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(bare_server.url + "/bargein", headers=headers)
    assert refused.value.status == 403
    async with http.get(bare_server.url + "/models", headers=headers) as response:
        assert response.status == 403


@pytest.mark.parametrize("path", ["/bargein", "/v1/bargein", "//bargein", "/v1//bargein"])
async def test_every_route_exists_under_each_of_its_names(
    bare_server: Server, http: aiohttp.ClientSession, path: str
) -> None:
    headers = bearer(bare_server)
    async with http.ws_connect(bare_server.url + path, headers=headers) as socket:
        await socket.send_json(CREATE)
        assert (await socket.receive_json())["type"] == "session.created"
        await socket.send_bytes(WINDOW)
        answer = await socket.receive_json()
        assert (answer["type"], answer["created_at"]) == ("inference_done", 5)
        assert len(answer["probabilities"]) == 4
        await socket.send_json({"type": "session.close"})
        assert (await socket.receive_json())["type"] == "session.closed"
        assert (await socket.receive()).type is WSMsgType.CLOSE


async def test_windows_sent_without_waiting_are_all_answered(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    headers = bearer(bare_server)
    async with http.ws_connect(bare_server.url + "/bargein", headers=headers) as socket:
        await socket.send_json(CREATE)
        for i in range(200):
            await socket.send_bytes(struct.pack("<Q", i) + b"\1\0" * 48000)
        assert (await socket.receive_json())["type"] == "session.created"
        answered = [(await socket.receive_json())["created_at"] for _ in range(200)]
        assert sorted(answered) == list(range(200))


async def test_a_message_of_ten_megabytes_ends_that_connection_alone(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    headers = bearer(bare_server)
    async with http.ws_connect(bare_server.url + "/bargein", headers=headers) as other:
        await other.send_json(CREATE)
        await other.receive_json()
        async with http.ws_connect(bare_server.url + "/bargein", headers=headers) as socket:
            await socket.send_json(CREATE)
            await socket.receive_json()
            connection = socket._conn
            assert connection is not None
            transport = connection.transport
            assert isinstance(transport, asyncio.Transport)
            with contextlib.suppress(ConnectionError):  # it may be closed before all is sent
                await socket.send_bytes(b"x" * 10_000_000)
            message = await socket.receive()
            assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
            # what it still has to write would outlive the test's loop
            transport.abort()
            await asyncio.sleep(0)
        await other.send_bytes(WINDOW)
        assert (await other.receive_json())["created_at"] == 5


async def test_a_window_of_ten_megabytes_is_refused_before_it_is_sent(bare_server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bare_server.port)
    (authorization,) = bearer(bare_server).values()
    writer.write(
        b"POST /bargein HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n"
        b"authorization: " + authorization.encode() + b"\r\n\r\n" + bytes(1000)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("body", "query", "status", "named"),
    [
        (b"", "", 400, "empty"),
        (b"x" * 3, "", 400, "two bytes"),
        (b"x" * 96002, "", 400, "at most 3 s"),
        (b"xx" * 800, "threshold=2", 400, "threshold"),
        (b"xx" * 800, "threshold=high", 400, "threshold"),
        (b"xx" * 800, "min_frames=many", 400, "min_frames"),
        (b"xx" * 800, "min_frames=1.5", 400, "min_frames"),
        (b"xx" * 800, "created_at=now", 400, "created_at"),
        (b"xx" * 800, "created_at=nan", 400, "created_at"),
    ],
)
async def test_a_bad_window_by_http_is_told_what_is_wrong(
    bare_server: Server,
    http: aiohttp.ClientSession,
    body: bytes,
    query: str,
    status: int,
    named: str,
) -> None:
    url = f"{bare_server.url}/bargein?{query}"
    async with http.post(url, data=io.BytesIO(body), headers=bearer(bare_server)) as response:
        assert response.status == status
        assert named in (await response.json())["error"]["message"]


@pytest.mark.parametrize("created_at", ["955087166132", "18446744073709551615", "17.25", "0"])
async def test_the_clients_key_is_echoed_as_it_was_written(
    bare_server: Server, http: aiohttp.ClientSession, created_at: str
) -> None:
    url = f"{bare_server.url}/bargein?threshold=0.5&min_frames=2&created_at={created_at}"
    loud = b"\xff\x7f" * 1600
    async with http.post(url, data=loud, headers=bearer(bare_server)) as response:
        assert response.status == 200
        text = await response.text()
        assert f'"created_at":{created_at},' in text
        answer = json.loads(text)
        assert answer["is_bargein"] is True
        assert len(answer["probabilities"]) == 4
        assert answer["prediction_duration"] > 0


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"{no json", 400, "not JSON"),
        (b'{"messages": [{}]}', 400, "model"),
        (b'{"model": "x/y", "messages": [{}]}', 404, "'x/y' is not served here"),
        (b" " * 1_000_001, 413, "larger than"),
        (b'{"model": "nobody/m", "messages": [{}]}', 503, "could not be reached"),
        (b'{"model": "nobody/m", "messages": [{}], "stream": true}', 503, "could not be reached"),
    ],
)
async def test_a_bad_chat_request_gets_openais_error_body(
    bare_server: Server, http: aiohttp.ClientSession, body: bytes, status: int, named: str
) -> None:
    url = bare_server.url + "/v1/chat/completions"
    async with http.post(url, data=body, headers=bearer(bare_server)) as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert named in error["message"]
        assert set(error) >= {"message", "type", "param", "code"}


async def test_a_slash_at_the_end_redirects_nobody_and_models_are_only_read(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    headers = bearer(bare_server) | {"Host": "evil.example"}
    async with http.get(
        bare_server.url + "/v1/models/", headers=headers, allow_redirects=False
    ) as response:
        assert response.status == 200
    async with http.get(bare_server.url + "/nowhere/", allow_redirects=False) as response:
        assert response.status == 404
    async with http.post(bare_server.url + "/models", headers=headers) as response:
        assert response.status == 405


async def test_a_large_body_is_read_as_a_small_one_is(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    url = bare_server.url + "/v1/chat/completions"
    body = b'{"model": "x/y", "messages": [{"content": "' + b"x" * 300_000 + b'"}]}'
    async with http.post(url, data=body, headers=bearer(bare_server)) as response:
        assert response.status == 404
        assert "'x/y' is not served here" in await response.text()


async def test_headers_without_end_are_refused_before_a_token_is_looked_at(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    for extra in ({"A": "x" * 8000}, {f"A{n}": "x" for n in range(200)}):
        async with http.get(bare_server.url + "/healthz", headers=extra) as response:
            assert response.status == (200 if len(extra) == 1 else 431)
    async with http.get(bare_server.url + "/" + "x" * 9000) as response:
        assert response.status == 414
        assert (await response.json())["error"]["code"] == "too_large"


async def test_headers_that_steer_are_checked(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    url = bare_server.url + "/chat/completions"
    body = b'{"model": "nobody/m", "messages": [{}]}'
    for name, value in (("Provider", "somebody"), ("Priority", "urgent")):
        headers = bearer(bare_server) | {f"X-LiveKit-Inference-{name}": value}
        async with http.post(url, data=body, headers=headers) as response:
            assert response.status == 400
            assert f"X-LiveKit-Inference-{name}" in (await response.json())["error"]["message"]


async def test_an_unknown_route_and_method_are_errors_in_the_same_form(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    async with http.get(bare_server.url + "/nowhere") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "not_found"
    async with http.get(bare_server.url + "/chat/completions") as response:
        assert response.status == 405
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(bare_server.url + "/nowhere", headers=bearer(bare_server))
    assert refused.value.status == 404


async def test_a_key_has_no_more_sessions_than_its_bound_and_gets_places_back(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    headers, url = bearer(bare_server), bare_server.url + "/bargein"
    sockets = [await http.ws_connect(url, headers=headers) for _ in range(40)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(url, headers=headers)
    assert refused.value.status == 429
    assert refused.value.headers is not None
    assert refused.value.headers["retry-after"] == "1"
    for socket in sockets:
        await socket.close()
    async with asyncio.timeout(60):
        while bare_server.metric("parley_open_sessions", route="bargein"):
            await asyncio.sleep(0.02)
    async with http.ws_connect(url, headers=headers) as socket:
        await socket.send_json(CREATE)
        assert (await socket.receive_json())["type"] == "session.created"


def test_the_operator_sees_health_readiness_and_metrics(bare_server: Server) -> None:
    assert bare_server.get("/healthz")[0] == 200
    status, body = bare_server.get("/readyz")
    assert status == 200
    told = json.loads(body)
    assert told["bargein"]["model"] == "running-mean"
    # a server of one's own may serve what nobody has named
    assert told["stt"] == {"ready": True, "models": 0}
    assert told["resting"] == []
    assert "parley_build_info" in bare_server.get("/metrics")[1]


@pytest.mark.parametrize("spelling", ["", "/v1", "/", "/v1/", "//v1"])
@pytest.mark.parametrize("path", ["/metrics", "/usage", "/healthz", "/readyz"])
def test_callers_reach_nothing_of_the_operators_under_any_spelling(
    bare_server: Server, path: str, spelling: str
) -> None:
    status, body = bare_server.fetch(bare_server.url + spelling + path)

    if path in ("/healthz", "/readyz") and not spelling:  # for load balancers, without details
        assert (status, len(json.loads(body))) == (200, 1)
    else:
        assert status == 404


def test_the_operators_port_serves_no_inference(bare_server: Server) -> None:
    for path in ("/models", "/v1/models", "/chat/completions", "/bargein", "/v1/metrics"):
        assert bare_server.fetch(bare_server.admin_url + path)[0] == 404


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("route=bargein", 200),
        ("route=chat", 200),
        ("route=eot", 503),
        ("route=chat&route=eot", 503),
        ("route=nothing", 400),
    ],
)
def test_readiness_can_be_asked_of_routes(bare_server: Server, asked: str, status: int) -> None:
    for url in (bare_server.url, bare_server.admin_url):
        assert bare_server.fetch(f"{url}/readyz?{asked}")[0] == status


async def test_logs_are_json_with_ids_and_without_secrets(
    bare_server: Server, http: aiohttp.ClientSession
) -> None:
    headers = bearer(bare_server)
    async with http.ws_connect(bare_server.url + "/bargein", headers=headers) as socket:
        await socket.send_json(CREATE)
        await socket.send_json({"type": "session.close"})
        assert [one.type async for one in socket]
    text = await asyncio.to_thread(bare_server.logged, '"windows":')
    lines = [json.loads(line) for line in text.splitlines()]
    ended = [line for line in lines if line.get("message") == "bargein" and "windows" in line]
    assert ended
    assert {"request_id", "session_id", "key", "outcome", "duration_s"} <= set(ended[0])
    assert bare_server.api_secret not in bare_server.log.read_text()


async def until_port_is_closed(
    http: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> None:
    while True:
        try:
            async with http.ws_connect(url, headers=headers):
                pass
        except aiohttp.WSServerHandshakeError as refused:  # its connection was taken before
            assert refused.status == 503  # noqa: PT017
        except aiohttp.ClientConnectionError:
            return


async def test_a_graceful_stop_takes_nobody_in_and_lets_open_sessions_finish(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    config = f"bargein: {{model: {model}}}\nserver: {{shutdown_grace_s: 120}}\n"
    with running(tmp_path, config) as server:
        headers, url = bearer(server), server.url + "/bargein"
        async with http.ws_connect(url, headers=headers) as socket:
            await socket.send_json(CREATE)
            await socket.receive_json()
            os.kill(server.process.pid, signal.SIGTERM)
            while server.get("/readyz")[0] != 503:
                await asyncio.sleep(0.02)
            await until_port_is_closed(http, url, headers)
            await socket.send_bytes(WINDOW)
            assert (await socket.receive_json())["created_at"] == 5
            await socket.send_json({"type": "session.close"})
            assert (await socket.receive_json())["type"] == "session.closed"
        assert await asyncio.to_thread(server.process.wait, 60) == 0


async def test_a_session_that_does_not_finish_is_closed_after_the_grace_time(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    config = f"bargein: {{model: {model}}}\nserver: {{shutdown_grace_s: 0.3}}\n"
    with running(tmp_path, config) as server:
        async with http.ws_connect(server.url + "/bargein", headers=bearer(server)) as socket:
            await socket.send_json(CREATE)
            await socket.receive_json()
            os.kill(server.process.pid, signal.SIGTERM)
            message = await asyncio.wait_for(socket.receive(), 60)
            if message.type is WSMsgType.TEXT:  # the last words, if there is time for them
                message = await asyncio.wait_for(socket.receive(), 60)
            assert message.type is WSMsgType.CLOSE
            assert message.data == 1012
        assert await asyncio.to_thread(server.process.wait, 60) == 0


async def test_a_session_that_has_lasted_too_long_is_closed_when_nobody_speaks(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    config = f"bargein: {{model: {model}}}\nlimits: {{session_s_max: 3}}\n"
    with running(tmp_path, config) as server:
        async with http.ws_connect(server.url + "/bargein", headers=bearer(server)) as socket:
            await socket.send_json(CREATE)
            await socket.receive_json()
            assert (await socket.receive_json(timeout=60))["code"] == 503
            message = await asyncio.wait_for(socket.receive(), 60)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
            assert "limits.session_s_max" in (message.extra or "")
        wanted = {"route": "bargein", "outcome": "session_too_long"}
        async with asyncio.timeout(60):
            while server.metric("parley_requests_total", **wanted) != 1:
                await asyncio.sleep(0.02)


async def test_an_address_has_no_more_connections_than_its_bound_and_gets_places_back(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    config = f"bargein: {{model: {model}}}\nlimits: {{connections_per_address: 2}}\n"
    with running(tmp_path, config) as server:
        url = server.url + "/bargein"
        first = await http.ws_connect(url, headers=bearer(server))
        idle = await asyncio.open_connection("127.0.0.1", server.port)  # says nothing, and counts
        for attempt in (http.get(server.url + "/healthz"), http.post(url)):
            async with attempt as response:
                assert response.status == 429
                assert response.headers["connection"] == "close"
                assert (await response.json())["error"]["code"] == "too_many_connections"
        assert server.get("/healthz")[0] == 200  # the operator's port has no such bound
        assert server.metric("parley_refusals_total", kind="too_many_connections") == 2
        async with asyncio.timeout(60):  # a thread of its own writes the log
            while server.log.read_text().count("no connections left") != 1:
                await asyncio.sleep(0.02)
        await first.close()
        idle[1].close()
        await idle[1].wait_closed()
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(server.fetch, server.url + "/healthz"))[0] != 200:
                await asyncio.sleep(0.02)


def made_certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key for 127.0.0.1."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    said = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x"
    for_whom = ("-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(key), "-out", str(certificate))
    command = [needed("openssl"), *said.split(), *for_whom, *files]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


async def test_with_a_certificate_callers_are_served_over_tls(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    model = frame_model.write(tmp_path / "m.onnx")
    certificate, key = made_certificate(tmp_path)
    config = f"""
bargein: {{model: {model}}}
server: {{tls: {{certificate: {certificate}, key: {key}}}}}
"""
    with running(tmp_path, config) as server:
        url, trusted = f"https://127.0.0.1:{server.port}", ssl.create_default_context()
        trusted.load_verify_locations(certificate)
        headers = bearer(server)
        async with http.get(url + "/models", headers=headers, ssl=trusted) as response:
            assert response.status == 200
        async with http.ws_connect(url + "/bargein", headers=headers, ssl=trusted) as socket:
            await socket.send_json(CREATE)
            assert (await socket.receive_json())["type"] == "session.created"
        # beside the loop, in which the client's connections come to their end
        status, _ = await asyncio.to_thread(server.get, "/readyz")
        assert status == 200


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    certificate, key = made_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = made_certificate(tmp_path / "other")
    check_tls(TlsConfig())
    check_tls(TlsConfig(certificate=certificate, key=key))

    for wrong in (other, certificate, tmp_path, tmp_path / "absent"):
        with pytest.raises(TlsError, match=re.escape(str(wrong))):
            check_tls(TlsConfig(certificate=certificate, key=wrong))


@pytest.mark.parametrize(
    ("begun", "last"),
    [
        ([], {"type": "http.response.body"}),
        ([{"type": "http.response.start", "status": 200, "headers": []}], None),
    ],
)
async def test_a_fault_of_ours_is_told_where_that_is_possible_and_never_shows_its_trace(
    begun: list[dict[str, Any]], last: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        for message in begun:
            await send(message)
        raise ValueError("secret detail")

    class Broken:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await broken(scope, receive, send)

    app = FastAPI()
    app.router.routes.append(Route("/x", Broken(), methods=["POST"]))
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("there is no body")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start" and sent:
            raise RuntimeError("the answer has begun")  # as uvicorn does
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": []}
    await Front(app)(scope, receive, send)
    assert "secret detail" not in str(sent)
    assert "secret detail" in caplog.text
    if last is None:
        assert sent == begun
    else:
        assert sent[0]["status"] == 500
        assert json.loads(sent[1]["body"])["error"]["code"] == "internal"
