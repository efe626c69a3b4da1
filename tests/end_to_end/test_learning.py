"""Learning from calls on the real server: what callers say over an agent is kept, labelled by what
/stt of the same call hears there, learnt from, and served as a second version.

Whether a change is any good is told by tests/engines/interruption/test_adapt.py and by
`python -m models.interruption.evaluate.learning`; here every change counts as one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import SecretStr
from websockets.asyncio.client import connect

from gateway.cli import learn
from gateway.engines.interruption import adapt
from gateway.engines.interruption.disputed import SETTLED_S, Label
from gateway.engines.interruption.vault import Vault
from gateway.settings.bargein import BargeinConfig, LearnConfig
from tests.end_to_end.server import Server, running
from tests.end_to_end.test_own_voice import said
from tests.end_to_end.tts_wire import token
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.speech import KEY
from tests.fakes.tones import VOCABULARY, hush, spoken

RATE, STEP = 16_000, 3200
SECRET = base64.b64encode(bytes(range(32))).decode()
CALLS = 24
OVERLAP_S, CALL_S = 2.6, 6.0
WORDS = hush(0.6) + spoken(VOCABULARY[:6]) + hush(CALL_S)
PERSON = said("interruption-libri-1034")


@dataclass
class Site:
    server: Server
    folder: Path
    file: Path

    @property
    def vault(self) -> Vault:
        return Vault(self.folder, bytes(range(32)))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        port = self.server.admin_url.rpartition(":")[2]
        more = ("--admin-port", port) if arguments == ("reload",) else ()
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments, "--config", str(self.file), *more],
            capture_output=True, text=True, timeout=120, check=False,
            env={"PATH": "/usr/bin:/bin", "LEARN_SECRET": SECRET, "PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("learning")
    with ExitStack() as stack:
        fake = stack.enter_context(FakeDeepgram())
        config = {
            "providers": {"deepgram": {"base_url": fake.url, "api_key": KEY}},
            "bargein": {
                "learn": {
                    "keys": ["*"],
                    "secret": "${LEARN_SECRET}",
                    "folder": str(folder / "kept"),
                    "control_share": 1.0,
                }
            },
        }
        server = stack.enter_context(
            running(folder, yaml.safe_dump(config), {"LEARN_SECRET": SECRET})
        )
        yield Site(server, folder / "kept", folder / "gateway.yaml")


def headers(server: Server, room: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token(server)}",
        "X-LiveKit-Room-ID": room,
        "X-LiveKit-Job-ID": f"AJ_{room}",
    }


async def interrupt(server: Server, room: str, seed: int) -> None:
    """A person over the agent, or the same one further away: windows as a client sends them."""
    rng = np.random.default_rng(seed)
    voice = PERSON * rng.uniform(0.3, 1.0) + rng.normal(0, 20, PERSON.size)
    samples = np.clip(voice, -32768, 32767).astype("<i2")
    url = f"ws://127.0.0.1:{server.port}/bargein"
    async with connect(url, additional_headers=headers(server, room)) as socket:
        settings = {"sample_rate": RATE, "num_channels": 1, "threshold": 0.5, "min_frames": 2}
        await socket.send(json.dumps({"type": "session.create", "settings": settings}))
        await socket.recv()
        for number, end in enumerate(range(STEP, round(OVERLAP_S * RATE), STEP)):
            window = samples[max(0, end - 3 * RATE) : end].tobytes()
            await socket.send(struct.pack("<Q", number) + window)
            await asyncio.gather(socket.recv(), asyncio.sleep(STEP / RATE))
        await socket.send(json.dumps({"type": "session.close"}))
        await socket.recv()


async def hear(server: Server, room: str, pcm: bytes) -> list[str]:
    """What /stt tells of a call; the audio comes in real time."""
    url = f"ws://127.0.0.1:{server.port}/stt"
    finals: list[str] = []
    async with connect(url, additional_headers=headers(server, room)) as socket:
        settings = {"sample_rate": str(RATE), "encoding": "pcm_s16le"}
        create = {"type": "session.create", "model": "deepgram/nova-3", "settings": settings}
        await socket.send(json.dumps(create))

        async def play() -> None:
            for start in range(0, round(2 * RATE * CALL_S), 2 * STEP):
                audio = base64.b64encode(pcm[start : start + 2 * STEP]).decode()
                await socket.send(json.dumps({"type": "input_audio", "audio": audio}))
                await asyncio.sleep(STEP / RATE)
            await socket.send(json.dumps({"type": "session.finalize"}))
            await socket.send(json.dumps({"type": "session.close"}))

        playing = asyncio.create_task(play())
        async for message in socket:
            told: dict[str, Any] = json.loads(message)
            if told["type"] == "final_transcript":
                finals.append(told["transcript"])
        await playing
    return finals


async def call(server: Server, number: int) -> None:
    """Of every second call /stt hears words while the caller is over the agent."""
    room = f"RM_{number}"
    words = number % 2 == 0
    pcm = WORDS if words else hush(CALL_S)
    finals, _ = await asyncio.gather(hear(server, room, pcm), interrupt(server, room, number))
    assert bool(finals) is words


async def test_calls_are_kept_labelled_learnt_from_and_served_as_a_second_version(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = site.server
    await asyncio.gather(*(call(server, number) for number in range(CALLS)))
    async with asyncio.timeout(60):
        while server.metric("parley_bargein_windows_total", outcome="kept") < CALLS:
            await asyncio.sleep(SETTLED_S / 10)

    kept = [site.vault.read(path) for path in site.vault.files()]
    by_room = {one.room: one for one in kept}
    labels = {f"RM_{n}": Label.NOISE if n % 2 else Label.FLOOR for n in range(CALLS)}
    assert {room: one.label for room, one in by_room.items()} == labels
    assert all(one.job == f"AJ_{one.room}" and one.key == server.api_key for one in kept)
    assert all(len(one.window) > RATE for one in kept)
    known = sum(
        server.metric("parley_bargein_followed_total", outcome=outcome)
        for outcome in ("agreed", "cut", "missed")
    )
    assert known == CALLS
    assert server.metric("parley_bargein_windows_total", outcome="kept") == CALLS

    said_by_command = site.command("bargein", "learn")
    assert said_by_command.returncode in (0, 1), said_by_command.stderr
    assert "regression set" in said_by_command.stdout

    monkeypatch.setattr(adapt, "refusals", lambda own, general: [])
    change = adapt.Fitted(np.full(adapt.DIRECTIONS, 0.01, np.float32), 0.1, 1.0)
    monkeypatch.setattr(adapt, "chosen", lambda windows, rehearsed: change)
    config = LearnConfig(keys=["*"], secret=SecretStr(SECRET), folder=site.folder)
    published = learn.learn(BargeinConfig(learn=config), print)
    assert published is not None

    await _reload(site, {published.name: 1.0})
    await interrupt(server, "RM_after", 0)
    version = await _version_with_overlaps(server, "+")
    assert server.metric("parley_bargein_version_decision_seconds_count", version=version) == 1

    wrong = site.file.read_text().replace(published.name, "none.onnx")
    before = site.file.read_text()
    site.file.write_text(wrong)
    refused = site.command("reload")
    assert refused.returncode != 0
    assert "there is no such file" in refused.stdout + refused.stderr
    site.file.write_text(before)

    await _reload(site, {})
    await interrupt(server, "RM_after", 0)
    assert server.metric("parley_bargein_version_overlaps_total", version=version) == 1

    forgotten = site.command("bargein", "forget", "--room", "RM_0")
    assert "1 windows deleted" in forgotten.stdout
    assert "RM_0" not in {site.vault.read(path).room for path in site.vault.files()}


async def _reload(site: Site, models: dict[str, float]) -> None:
    given = yaml.safe_load(site.file.read_text())
    given["bargein"]["models"] = models
    site.file.write_text(yaml.safe_dump(given))
    done = await asyncio.to_thread(site.command, "reload")
    assert done.returncode == 0, done.stdout + done.stderr


async def _version_with_overlaps(server: Server, part: str) -> str:
    """The version of that name that has served a call."""
    async with asyncio.timeout(30):
        while True:
            for line in server.get("/metrics")[1].splitlines():
                if line.startswith("parley_bargein_version_overlaps_total{") and part in line:
                    return line.partition('version="')[2].partition('"')[0]
            await asyncio.sleep(0.1)
