"""deploy/nginx.conf and deploy/Caddyfile: the real proxies in front of the real gateway, by TLS."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import ssl
import struct
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest

from gateway.installation import PATHS
from gateway.server.auth import mint
from gateway.settings.server import LimitsConfig
from tests.end_to_end.server import Server, running
from tests.fakes import frame_model, turn_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.openai_realtime import KEY as REALTIME_KEY
from tests.fakes.openai_realtime import FakeRealtime
from tests.fakes.speech import KEY as SPEECH_KEY
from tests.ports import Port
from tests.services import STOP_TIMEOUT_S, needed, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
PATIENCE_S = 60.0
WINDOW = struct.pack("<Q", 5) + b"\1\0" * 16_000
MIB = 1 << 20
ENOUGH = 40
"""Answers in a row by which every upstream that is still used has been asked."""


@dataclass
class Upstream:
    """A chat provider that holds the second word back until `go_on` is set."""

    go_on: threading.Event = field(default_factory=threading.Event)
    bodies: list[int] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    state = Upstream()

    class Provider(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            state.bodies.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.say("first")
            state.go_on.wait(PATIENCE_S)
            self.say("second", finish="stop")
            self.wfile.write(b"data: [DONE]\n\n")

        def say(self, word: str, finish: str | None = None) -> None:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": finish}
            chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Provider) as port:
        state.url = f"http://127.0.0.1:{port}/v1"
        yield state
        state.go_on.set()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("behind-a-proxy")
    config = f"""
usage: {{enabled: false}}
bargein: {{model: {frame_model.write(folder / "m.onnx")}}}
providers:
  held: {{type: openai-compatible, base_url: "{upstream.url}", api_key: sk-test, models: [m]}}
"""
    with running(folder, config) as server:
        yield server


@dataclass(frozen=True)
class Proxy:
    """Where a running proxy answers, and whose certificates it shows."""

    url: str
    authority: Path

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


@contextmanager
def started(command: list[str], folder: Path, ready: Path, **variables: str) -> Iterator[None]:
    """A proxy that runs until the end; it is up when it has written `ready`."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


Ready = Callable[[int], int]
"""The status of /readyz of the n-th upstream."""


class Made(Protocol):
    """Starts a proxy in front of the upstreams on these ports."""

    __name__: str

    def __call__(
        self, folder: Path, ports: Sequence[int], ready: Ready
    ) -> AbstractContextManager[Proxy]: ...


HOSTS = ("127.0.0.1", "localhost")
"""Names of this machine, so that Caddy's health checks, which go to one port, tell two apart."""


@contextmanager
def readiness(ready: Ready) -> Iterator[int]:
    """A port that answers for the operator's port of each upstream."""

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["Host"].partition(":")[0]
            self.send_response(ready(HOSTS.index(host)))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Asked) as port:
        yield port


@contextmanager
def nginx(folder: Path, ports: Sequence[int], _: Ready) -> Iterator[Proxy]:
    """deploy/nginx.conf in front of `ports`, with a certificate of its own."""
    program = needed("nginx")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    made = ["-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *names]
    subprocess.run(["openssl", "req", "-x509", *made], check=True, capture_output=True)
    with Port() as port:
        text = (DEPLOY / "nginx.conf").read_text()
        servers = [f"    server 127.0.0.1:{one} max_fails=0;\n" for one in ports]
        for there, here in (
            ("listen 443 ", f"listen 127.0.0.1:{port.number} "),
            ("    server 127.0.0.1:8080 max_fails=0;\n", "".join(servers)),
            ("/etc/ssl/parley/fullchain.pem", str(certificate)),
            ("/etc/ssl/parley/privkey.pem", str(key)),
            ("voice.example.com", "localhost"),
        ):
            assert there in text
            text = text.replace(there, here)
        (folder / "parley.conf").write_text(text)
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # nginx.conf as the distributions have it, without what they put beside
        (folder / "nginx.conf").write_text(
            f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {folder}/pid;\n"
            f"error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; {paths} include {folder}/parley.conf; }}\n"
        )
        command = [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        with started(command, folder, folder / "pid"):
            yield Proxy(f"https://localhost:{port.number}", certificate)


@contextmanager
def caddy(folder: Path, ports: Sequence[int], ready: Ready) -> Iterator[Proxy]:
    """deploy/Caddyfile for https://localhost: Caddy is its own authority there."""
    program = needed("caddy")
    authority = folder / "storage/pki/authorities/local/root.crt"
    with Port() as port, ExitStack() as stack:
        options = (
            "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n"
            f"\tstorage file_system {folder}/storage\n}}\n"
        )
        text = (DEPLOY / "Caddyfile").read_text()
        said = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
        version = re.search(r"(\d+)\.(\d+)", said.stdout)
        if version and (int(version[1]), int(version[2])) < (2, 7):
            # Debian 12 has a Caddy from before this option
            text = re.sub(r"^\s*stream_close_delay .*\n", "", text, flags=re.MULTILINE)
        (folder / "Caddyfile").write_text(options + text)
        variables = {
            "PARLEY_DOMAIN": f"https://localhost:{port.number}",
            "PARLEY_UPSTREAMS": " ".join(map("{}:{}".format, HOSTS, ports)),
            "PARLEY_ADMIN_PORT": str(stack.enter_context(readiness(ready))),
            "XDG_DATA_HOME": str(folder),
        }
        command = [program, "run", "--config", str(folder / "Caddyfile")]
        with started(command, folder, authority, **variables):
            yield Proxy(f"https://localhost:{port.number}", authority)


@pytest.fixture(scope="module", params=[nginx, caddy], ids=lambda made: made.__name__)
def made(request: pytest.FixtureRequest) -> Made:
    chosen: Made = request.param
    return chosen


@pytest.fixture(scope="module")
def proxy(made: Made, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp(made.__name__)
    with made(folder, [server.port], lambda _: server.get("/readyz")[0]) as proxy:
        yield proxy


@pytest.fixture
async def http(server: Server, proxy: Proxy) -> AsyncIterator[aiohttp.ClientSession]:
    async with trusting_client(server, proxy) as session:
        await until_it_answers(session, proxy)
        yield session


def trusting_client(server: Server, proxy: Proxy) -> aiohttp.ClientSession:
    token = mint(server.api_key, server.api_secret, identity="agent", ttl_s=600)
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(ssl=proxy.trusting()),
        timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
    )


async def until_it_answers(session: aiohttp.ClientSession, proxy: Proxy) -> None:
    """The proxy listens, and knows that the gateway is healthy."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with session.get(f"{proxy.url}/v1/models") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


def prompt(image_bytes: int = 0) -> io.BytesIO:
    content: list[dict[str, object]] = [{"type": "text", "text": "Hello"}]
    if image_bytes:
        url = "data:image/png;base64," + "A" * image_bytes
        content.append({"type": "image_url", "image_url": {"url": url}})
    messages = [{"role": "user", "content": content}]
    body = {"model": "held/m", "stream": True, "messages": messages}
    return io.BytesIO(json.dumps(body).encode())


async def test_a_reply_passes_word_by_word(
    http: aiohttp.ClientSession, proxy: Proxy, upstream: Upstream
) -> None:
    upstream.go_on.clear()
    async with http.post(f"{proxy.url}/v1/chat/completions", data=prompt()) as answer:
        heard = b""
        async for piece in answer.content.iter_any():
            heard += piece
            if b"first" in heard and not upstream.go_on.is_set():
                assert b"second" not in heard
                upstream.go_on.set()  # had the proxy kept the first word, nobody would get here

    assert b"second" in heard
    assert b"[DONE]" in heard


async def test_a_prompt_with_pictures_passes(
    http: aiohttp.ClientSession, proxy: Proxy, upstream: Upstream
) -> None:
    upstream.go_on.set()
    async with http.post(f"{proxy.url}/v1/chat/completions", data=prompt(10 * MIB)) as answer:
        assert answer.status == 200
        assert b"[DONE]" in await answer.read()

    assert upstream.bodies[-1] > 10 * MIB


async def test_what_is_too_large_is_refused_by_the_gateway_in_its_own_words(
    http: aiohttp.ClientSession, proxy: Proxy
) -> None:
    body = prompt(LimitsConfig().chat_body_bytes)
    async with http.post(f"{proxy.url}/v1/chat/completions", data=body) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "too_large"


async def test_interruption_is_decided_over_a_websocket(
    http: aiohttp.ClientSession, proxy: Proxy
) -> None:
    async with http.ws_connect(f"{proxy.url}/v1/bargein") as socket:
        settings = {"sample_rate": 16000, "num_channels": 1, "min_frames": 2}
        await socket.send_json({"type": "session.create", "settings": settings})
        assert (await socket.receive_json())["type"] == "session.created"
        await socket.send_bytes(WINDOW)
        assert (await socket.receive_json())["type"] == "inference_done"


async def test_a_caller_finds_its_call_by_its_own_id(
    http: aiohttp.ClientSession, proxy: Proxy
) -> None:
    named = {"X-Request-ID": "CALL-4711"}
    async with http.get(f"{proxy.url}/v1/models", headers=named) as answer:
        assert answer.headers["X-Request-ID"] == "CALL-4711"
    async with http.get(f"{proxy.url}/v1/models") as answer:
        assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/healthz", "/", "/chat/completions"])
async def test_only_v1_is_reached_from_outside(
    http: aiohttp.ClientSession, proxy: Proxy, path: str
) -> None:
    async with http.get(proxy.url + path) as answer:
        assert answer.status == 404


SOCKETS: dict[str, dict[str, object] | None] = {
    "/stt?model=deepgram/nova-3": {
        "type": "session.create",
        "model": "deepgram/nova-3",
        "settings": {"sample_rate": "16000", "encoding": "pcm_s16le"},
    },
    "/tts?model=cartesia/sonic-3": {
        "type": "session.create",
        "model": "cartesia/sonic-3",
        "voice": "v",
        "sample_rate": "24000",
        "encoding": "pcm_s16le",
    },
    "/bargein": {
        "type": "session.create",
        "settings": {"sample_rate": 16000, "num_channels": 1, "min_frames": 2},
    },
    "/eot": None,
    "/realtime?model=openai/gpt-realtime": None,
}
"""WebSocket routes, and what a client says first where it is answered."""


@pytest.fixture(scope="module")
def with_all_routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("all-routes")
    with FakeDeepgram() as ear, FakeCartesia() as voice, FakeRealtime() as model:
        config = f"""
log: {{format: json}}
usage: {{enabled: false}}
bargein: {{model: {frame_model.write(folder / "m.onnx")}}}
eot: {{model: {turn_model.write(folder / "turn.onnx")}}}
providers:
  deepgram: {{base_url: "{ear.url}", api_key: {SPEECH_KEY}}}
  cartesia: {{base_url: "{voice.url}", api_key: k}}
  openai: {{base_url: "{model.base_url}", api_key: {REALTIME_KEY}}}
"""
        with running(folder, config) as server:
            yield server


def test_every_route_that_is_a_websocket_is_cut() -> None:
    cut = {path.partition("?")[0] for path in SOCKETS}

    # the first is as /realtime is, and has no fake; of the second each request has its own line
    others = {"/live/sessions", "/responses"}
    assert cut == {path for kind, path in PATHS if kind == "WEBSOCKET"} - others


@pytest.mark.parametrize("ends", ["cut", "closed"])
async def test_a_session_that_was_cut_has_not_ended_well(
    made: Made, tmp_path: Path, with_all_routes: Server, ends: str
) -> None:
    """Behind a proxy as without one: the log says "left" for who vanished, "ok" for who closed."""
    server = with_all_routes
    with made(tmp_path, [server.port], lambda _: server.get("/readyz")[0]) as proxy:
        async with trusting_client(server, proxy) as http:
            await until_it_answers(http, proxy)
            for path, first in SOCKETS.items():
                job = f"{made.__name__}-{ends}-{path.partition('?')[0][1:]}"
                socket = await http.ws_connect(
                    f"{proxy.url}/v1{path}", headers={"X-LiveKit-Job-ID": job}
                )
                if first is not None:
                    await socket.send_json(first)
                    assert (await socket.receive_json())["type"] == "session.created"
                if ends == "closed":
                    await socket.close()
                else:
                    connection = socket._response.connection
                    assert connection is not None
                    assert connection.transport is not None
                    connection.transport.abort()
                    connection.close()
                log = await asyncio.to_thread(server.logged, f'"job_id":"{job}"')
                (line,) = [json.loads(one) for one in log.splitlines() if job in one]
                # a socket of /tts on which nothing was said has served nobody, however it ends
                well = ends == "closed" and line["route"] != "tts"
                assert line["outcome"] == ("ok" if well else "left"), (path, line)
                assert line["status"] == 101


async def test_a_caller_cannot_name_its_own_address(made: Made, tmp_path: Path) -> None:
    class Echo(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told = ", ".join(self.headers.get_all("X-Forwarded-For", [])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Echo) as port, made(tmp_path, [port], lambda _: 200) as proxy:
        connector = aiohttp.TCPConnector(ssl=proxy.trusting())
        async with aiohttp.ClientSession(connector=connector) as http:
            await until_it_answers(http, proxy)
            forged = {"X-Forwarded-For": "10.1.2.3"}
            async with http.get(f"{proxy.url}/v1/models", headers=forged) as answer:
                assert await answer.text() in ("127.0.0.1", "::1")


async def test_one_of_two_gateways_is_stopped_and_callers_see_nothing_of_it(
    made: Made, tmp_path: Path, server: Server, upstream: Upstream
) -> None:
    """An open session holds the one that drains; who comes is served by the other."""
    upstream.go_on.set()
    folder = tmp_path / "draining"
    folder.mkdir()
    config = f"""
usage: {{enabled: false}}
bargein: {{model: {frame_model.write(tmp_path / "m.onnx")}}}
"""
    keys = {"LIVEKIT_API_KEY": server.api_key, "LIVEKIT_API_SECRET": server.api_secret}
    with running(folder, config, keys) as draining:
        both = (draining, server)
        ports = [one.port for one in both]
        place = tmp_path / "proxy"
        place.mkdir()
        with made(place, ports, lambda n: both[n].get("/readyz")[0]) as proxy:
            async with trusting_client(server, proxy) as http:
                await until_it_answers(http, proxy)
                async with http.ws_connect(f"{draining.url}/bargein") as held:
                    draining.process.send_signal(signal.SIGTERM)
                    async with asyncio.timeout(PATIENCE_S):
                        while await asyncio.to_thread(lambda: draining.get("/readyz")[0]) == 200:
                            pass
                        in_a_row = 0
                        while in_a_row < ENOUGH:
                            async with http.get(f"{proxy.url}/v1/models") as answer:
                                in_a_row = in_a_row + 1 if answer.status == 200 else 0
                                assert in_a_row or made is caddy, "nginx asks the other at once"
                    assert not held.closed
