"""A new configuration for the real server, alone and with workers, while calls go on."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.server.auth import mint
from tests.end_to_end.server import Server, running
from tests.end_to_end.test_drain import PAIR
from tests.end_to_end.test_workers import until_workers_are, workers_of
from tests.fakes import frame_model
from tests.fakes.cartesia_tts import FakeCartesia
from tests.fakes.openai_chat import FakeOpenAI
from tests.services import needed

POLL_S = 0.05
PATIENCE_S = 120
RELOADS = 100
WORDS_MAX = 20
SPARE_BYTES = 24 << 20
"""What a server may grow by while it reads its configuration RELOADS times: caches fill."""

alone_or_with_workers = pytest.mark.parametrize(
    "workers",
    [
        1,
        pytest.param(
            2, marks=pytest.mark.skipif(sys.platform != "linux", reason="not spread evenly")
        ),
    ],
)


@dataclass
class Site:
    """A server, its configuration and its providers."""

    server: Server
    file: Path
    old: FakeOpenAI
    new: FakeOpenAI
    voice: FakeCartesia

    def write(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the file."""
        given = yaml.safe_load(self.file.read_text())
        change(given)
        self.file.write_text(yaml.safe_dump(given))

    async def reload(self) -> tuple[int, str]:
        """Exit status of the command, and what it says."""
        port = self.server.admin_url.rpartition(":")[2]
        arguments = ["reload", "--config", str(self.file), "--admin-port", port]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    def change_voice(self, key: str) -> None:
        self.write(lambda given: given["providers"]["cartesia"].update(api_key=key))

    async def hang_up(self, applied: int) -> None:
        """Reload by a signal; so many will have been applied then."""
        self.server.process.send_signal(signal.SIGHUP)
        await self.until(lambda: self.reloads("applied") == applied)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(POLL_S)

    def reloads(self, outcome: str) -> float:
        return self.server.metric("parley_config_reloads_total", outcome=outcome)

    @asynccontextmanager
    async def asking(self, token: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that opens a connection for each request: it meets every worker."""
        token = token or mint(*PAIR, identity="agent", ttl_s=600)
        async with aiohttp.ClientSession(
            self.server.url,
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(force_close=True),
        ) as http:
            yield http


@pytest.fixture
def workers() -> int:
    return 1


@pytest.fixture
def site(workers: int, tmp_path: Path) -> Iterator[Site]:
    model = frame_model.write(tmp_path / "m.onnx")
    with FakeOpenAI() as old, FakeOpenAI() as new, FakeCartesia() as voice:
        config = f"""
bargein: {{model: {model}}}
server: {{workers: {workers}, drain_delay_s: 0, shutdown_grace_s: 5}}
usage: {{enabled: false}}
providers:
  openai: {{base_url: "{old.base_url}", api_key: k}}
  cartesia: {{base_url: "{voice.url}", api_key: k}}
models: {{m: [{{provider: openai, model: gpt-4.1-mini}}]}}
"""
        with running(tmp_path, config, pair=PAIR) as server:
            yield Site(server, tmp_path / "gateway.yaml", old, new, voice)


async def status(http: aiohttp.ClientSession, model: str = "m") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    async with http.post("/chat/completions", json=body) as response:
        await response.read()
        return response.status


async def sentence(socket: aiohttp.ClientWebSocketResponse) -> bytes:
    """Say one, and hear it to its end."""
    await socket.send_json({"type": "input_transcript", "transcript": "Hello there."})
    await socket.send_json({"type": "session.flush"})
    pcm = b""
    while True:
        told = await socket.receive_json()
        if told["type"] == "done":
            return pcm
        assert told["type"] in ("session.created", "output_audio", "output_alignment"), told
        pcm += base64.b64decode(told.get("audio", ""))


@alone_or_with_workers
async def test_open_calls_go_on_while_keys_and_providers_change(site: Site, workers: int) -> None:
    if workers > 1:
        await until_workers_are(site.server, workers)
    leaver = ("APIleaves", "l" * 40)
    site.write(lambda given: given["keys"].update([leaver]))
    code, said = await site.reload()
    assert (code, "keys added: APIleaves" in said) == (0, True), said
    token = mint(*leaver, identity="agent", ttl_s=600)

    def change(given: dict[str, Any]) -> None:
        del given["keys"][leaver[0]]
        del given["providers"]["cartesia"]
        given["providers"]["openai"] = {"base_url": site.new.base_url, "api_key": "n"}
        given["server"]["port"] = 1

    async with asyncio.timeout(PATIENCE_S), site.asking(token) as leaving, site.asking() as http:
        assert [await status(leaving) for _ in range(10)] == [200] * 10, "tokens are cached"
        site.old.script("endless")
        said_on: list[bytes] = []
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
        async with (
            leaving.post("/chat/completions", json=body) as talking,
            http.ws_connect("/tts?model=cartesia/sonic-3") as speaking,
        ):
            said_on.append(await talking.content.readline())
            create = {"type": "session.create", "sample_rate": "24000", "voice": "v"}
            await speaking.send_json(create | {"model": "cartesia/sonic-3"})
            assert await sentence(speaking)

            site.write(change)
            code, said = await site.reload()
            assert code == 0, said
            assert "keys removed: APIleaves" in said
            assert "server.port: has changed, and stays as it was until a restart" in said
            # at once, at every worker, although the token was verified before
            assert [await status(leaving) for _ in range(10)] == [401] * 10
            asked = len(site.old.received)
            assert [await status(http) for _ in range(10)] == [200] * 10
            assert (len(site.old.received), len(site.new.received)) == (asked, 10)
            async with http.ws_connect("/tts?model=cartesia/sonic-3") as late:
                await late.send_json(create | {"model": "cartesia/sonic-3"})
                await late.send_json({"type": "input_transcript", "transcript": "Hello."})
                assert (await late.receive_json())["code"] == 404

            # what was open goes on with what it began with
            for _ in range(WORDS_MAX):
                said_on.append(await talking.content.readline())
            assert all(said_on)
            assert await sentence(speaking)
            assert not all(one.ended_at for one in site.voice.received)
        # and the sockets to who was removed are closed after the last session
        await site.until(lambda: all(one.ended_at for one in site.voice.received))
    assert "Traceback" not in site.server.log.read_text()


@alone_or_with_workers
async def test_a_file_with_mistakes_changes_nothing(site: Site, workers: int) -> None:
    good = site.file.read_text()
    site.file.write_text(good + "limts: {sessions: 1}\n")
    site.server.process.send_signal(signal.SIGHUP)
    await site.until(lambda: site.reloads("refused") == 1)
    code, said = await site.reload()
    assert (code, "limts" in said) == (2, True)
    async with site.asking() as http:
        assert await status(http) == 200
    lines = [json.loads(line) for line in site.server.logged("was not taken").splitlines()]
    (told,) = [line for line in lines if "was not taken" in line["message"]]
    assert told["level"] == "error"
    assert "limts" in told["mistakes"]
    taken_at = site.server.metric("parley_config_taken_timestamp_seconds")
    site.file.write_text(good)
    await site.hang_up(1)
    assert site.server.metric("parley_config_taken_timestamp_seconds") > taken_at
    if workers > 1:
        await until_workers_are(site.server, workers)


async def test_a_secret_in_a_file_is_read_again(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("first")
    site.write(lambda given: given["providers"]["openai"].update(api_key=f"${{file:{secret}}}"))
    async with site.asking() as http:
        for key in ("first", "second"):
            secret.write_text(key)
            assert (await site.reload())[0] == 0
            assert await status(http) == 200
            assert site.old.received[-1].headers["authorization"] == f"Bearer {key}"


@pytest.mark.parametrize("workers", [2])
async def test_a_worker_that_starts_later_has_the_new_configuration(site: Site) -> None:
    await until_workers_are(site.server, 2)
    site.write(lambda given: given.update(models={"n": given["models"]["m"]}))
    assert (await site.reload())[0] == 0
    killed = workers_of(site.server)[0]
    os.kill(killed, signal.SIGKILL)
    await site.until(lambda: killed not in workers_of(site.server))
    await until_workers_are(site.server, 2)
    async with site.asking() as http:
        assert {await status(http, "n") for _ in range(20)} == {200}
        assert {await status(http, "m") for _ in range(20)} == {404}


async def test_a_hundred_reloads_leave_nothing_behind(site: Site) -> None:
    pid = site.server.process.pid

    def resident_bytes() -> int:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def files() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    sockets, threads = files(), len(os.listdir(f"/proc/{pid}/task"))
    bytes_before = 0
    async with site.asking() as http:
        create = {"type": "session.create", "sample_rate": "24000", "model": "cartesia/sonic-3"}
        for i in range(RELOADS):
            site.change_voice(f"k{i}")
            await site.hang_up(i + 1)
            if i % 10 == 0:
                assert await status(http) == 200
                async with http.ws_connect("/tts") as speaking:
                    await speaking.send_json(create | {"voice": "v"})
                    assert await sentence(speaking)
            if i == RELOADS // 5:
                bytes_before = resident_bytes()
    spoken = list(site.voice.received)
    assert len(spoken) >= RELOADS // 10
    # the last one is the only one that is not replaced yet
    await site.until(lambda: sum(one.ended_at is None for one in spoken) <= 2)
    await site.until(lambda: files() <= sockets + 8)
    assert len(os.listdir(f"/proc/{pid}/task")) <= threads + 8
    assert resident_bytes() - bytes_before < SPARE_BYTES


def made_certificate(folder: Path) -> None:
    """A new `c.pem` with its `k.pem`."""
    said = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x"
    files = ("-keyout", str(folder / "k.pem"), "-out", str(folder / "c.pem"))
    command = [needed("openssl"), *said.split(), *files]
    subprocess.run(command, check=True, capture_output=True)


@alone_or_with_workers
async def test_a_renewed_certificate_is_shown_to_new_connections(
    tmp_path: Path, workers: int
) -> None:
    made_certificate(tmp_path)
    model = frame_model.write(tmp_path / "m.onnx")
    config = f"""
bargein: {{model: {model}}}
usage: {{enabled: false}}
server: {{workers: {workers}, tls: {{certificate: {tmp_path}/c.pem, key: {tmp_path}/k.pem}}}}
"""
    with running(tmp_path, config) as server:

        def shown() -> set[str]:
            address = ("127.0.0.1", server.port)
            return {ssl.get_server_certificate(address).strip() for _ in range(10)}

        def reloaded(outcome: str) -> bool:
            return server.metric("parley_config_reloads_total", outcome=outcome) == 1

        async def until(condition: Callable[[], object]) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not await asyncio.to_thread(condition):
                    await asyncio.sleep(POLL_S)

        before = (tmp_path / "c.pem").read_text().strip()
        assert await asyncio.to_thread(shown) == {before}
        (tmp_path / "c.pem").write_text("no certificate")
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: reloaded("refused"))
        assert await asyncio.to_thread(shown) == {before}
        made_certificate(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: reloaded("applied"))
        assert await asyncio.to_thread(shown) == {(tmp_path / "c.pem").read_text().strip()}
