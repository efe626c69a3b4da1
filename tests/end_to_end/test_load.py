"""A short run of the load: calls of every kind, failing providers, vanishing clients."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from livekit.protocol.agent_pb.agent_inference import ClientMessage

from gateway.audio.pcm import wav
from tests.end_to_end.clients import Client
from tests.end_to_end.server import running
from tests.fakes.deepgram_stt import FakeDeepgram
from tests.fakes.tones import VOCABULARY, Ear, HeardWord, hush, spoken
from tests.load.callers import NUMBERS, Caller
from tests.load.recorder import Recorder, recording
from tests.load.run import WORKERS, load
from tests.load.tally import POOL_THREADS, Held, Kind, slope
from tests.load.upstreams import failing

SECONDS, WARM_S = 14.0, 6.0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: it looks into /proc")
def test_no_call_fails_that_could_be_served_and_all_is_given_back() -> None:
    seed = random.SystemRandom().getrandbits(32)
    result = load(SECONDS, WARM_S, seed)

    assert result.findings() == [], f"seed {seed}"
    assert all(kind.served for kind in result.kinds.values()), result.kinds
    assert result.fallbacks > 0


def test_a_pool_that_has_grown_is_no_leak_and_a_thread_for_each_call_is_one() -> None:
    before = Held(100.0, 50, 20, 12, 2, 30, 0)

    assert replace(before, threads=12 + POOL_THREADS).leaked(before) == {}
    assert set(replace(before, threads=112 + 3 * POOL_THREADS).leaked(before)) == {"threads"}
    assert replace(before, sockets=21).leaked(before) == {"sockets": 1}


def test_growth_is_told_with_its_error() -> None:
    times_s = [0.0, 1800.0, 3600.0]

    assert slope(times_s, [100.0, 105.0, 110.0]) == pytest.approx((10.0, 0.0), abs=1e-9)
    grown, error = slope(times_s, [100.0, 106.0, 110.0])
    assert grown == pytest.approx(10.0)
    assert error > 0


class Forgetful(Ear):
    """Does not tell the first word that it hears."""

    def _end(self) -> list[HeardWord]:
        ended = super()._end()
        return [] if ended and len(self.words) == 1 else ended


async def test_of_lost_words_it_is_told_how(tmp_path: Path) -> None:
    with (
        failing(tmp_path, 1, WORKERS, share=0.0) as upstreams,
        running(tmp_path, upstreams.config) as server,
    ):
        for fake in upstreams.fakes:
            if isinstance(fake, FakeDeepgram):
                fake.ear = Forgetful
        tally = Kind()
        await Caller(server, "stt", tally, 1, vanishing=0.0, upstreams=upstreams).call()

    assert tally.failed == 0
    assert tally.lost == 1
    (story,) = tally.stories
    first = story[0].split()[1]
    text = "\n".join(story)
    assert f"heard {first}" in text
    assert "final_transcript" in text
    assert "flaky well" in text
    assert "stt" in story[-1]


# -- what the light callers say is what the real client says

Said = dict[str, set[str]]
"""Path and kind of message -> the fields that stood in one of them."""


async def test_light_callers_say_what_the_real_client_says(
    current_client: Client, tmp_path: Path
) -> None:
    speech = tmp_path / "speech.wav"
    speech.write_bytes(wav(hush(0.3) + spoken(VOCABULARY[:3]) + hush(0.5), 16_000))
    with (
        failing(tmp_path, 1, WORKERS, share=0.0) as upstreams,
        running(tmp_path, upstreams.config) as server,
    ):
        async with recording(server.url) as real:
            environment = replace(server, port=real.port).agent_environment()
            drivers = (
                ("drive_llm", "--model", "flaky/chat", "Say hello."),
                ("drive_stt", str(speech), "--model", "flaky/stt", "--language", "en"),
                ("drive_tts", "--model", "flaky/tts", "The first of them is here."),
                ("drive_bargein", f"{speech}:0.3:1.0"),
                ("drive_eot", f"{speech}:1.0", f"{speech}:1.0"),
            )
            await asyncio.gather(
                *(
                    asyncio.to_thread(current_client.drive, *driver, environment=environment)
                    for driver in drivers
                )
            )
        async with recording(server.url) as light:
            through = replace(server, port=light.port)
            kinds = {name: Kind() for name in NUMBERS}
            callers = [Caller(through, name, kinds[name], 1, vanishing=0.0) for name in NUMBERS]
            await asyncio.gather(*(caller.call() for caller in callers))
    theirs, ours = said(real), said(light)

    assert all(kind.served for kind in kinds.values()), kinds
    assert ours.keys() <= theirs.keys(), theirs.keys()
    for kind, fields in ours.items():
        assert fields <= theirs[kind], kind


def said(recorder: Recorder) -> Said:
    found: Said = {}
    for path, body in recorder.bodies:
        path = path.removeprefix("/v1")
        found.setdefault(path, set()).update(json.loads(body))
    for path, message in recorder.messages:
        path = path.removeprefix("/v1")
        if isinstance(message, str):
            told = json.loads(message)
            found.setdefault(f"{path} {told['type']}", set()).update(told)
        elif path.endswith("/eot"):
            heard = ClientMessage.FromString(message)
            kind = f"{path} {heard.WhichOneof('message')}"
            found.setdefault(kind, set()).update(one.name for one, _ in heard.ListFields())
        else:
            found.setdefault(f"{path} binary", set())
    return found
