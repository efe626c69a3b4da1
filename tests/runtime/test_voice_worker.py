"""Voices in a process of their own: a small program in place of the model."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.runtime.voice_worker import Workers
from gateway.upstreams.errors import Kind
from gateway.upstreams.tts import (
    Audio,
    Capabilities,
    Failed,
    Finished,
    PartSpoken,
    SpeechRequest,
    SynthesisEvent,
)

REQUEST = SpeechRequest("kokoro", "ann", None, 24000)
PROGRAM = """
import json, struct, sys, time
HEAD = struct.Struct("<IBI")
def say(kind, job, payload=b""):
    sys.stdout.buffer.write(HEAD.pack(len(payload), kind, job) + payload)
    sys.stdout.buffer.flush()
while True:
    head = sys.stdin.buffer.read(HEAD.size)
    if len(head) < HEAD.size:
        break
    length, kind, job = HEAD.unpack(head)
    payload = sys.stdin.buffer.read(length)
    if kind != 1:
        continue
    asked = json.loads(payload)
    if asked["text"] == "die":
        sys.exit(1)
    if asked["text"] == "fail":
        say(6, job, b"voice: there is no such")
        continue
    say(4, job, (asked["voice"] + asked["text"]).encode())
    say(5, job)
"""


class Voice:
    traits = Capabilities(rates=(24000,), text_chars_max=400, marks=True)

    def __init__(self, folder: Path) -> None:
        self._path = folder / "voice.py"
        self._path.write_text(PROGRAM)
        self.problem: str | None = None

    def command(self) -> Sequence[str]:
        return (sys.executable, "-I", str(self._path))

    def check(self) -> str | None:
        return self.problem


class Ear:
    """Keeps what is heard; `end` is set at the last word."""

    def __init__(self) -> None:
        self.heard: list[SynthesisEvent] = []
        self.end = asyncio.Event()

    def __call__(self, heard: SynthesisEvent) -> None:
        self.heard.append(heard)
        if isinstance(heard, (Finished, Failed)):
            self.end.set()


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers()
    yield made
    await made.close()


async def test_texts_are_spoken_in_order_and_each_end_is_told(
    workers: Workers, tmp_path: Path
) -> None:
    ear = Ear()
    speech = workers.begin(Voice(tmp_path), REQUEST, ear)
    speech.say("one")
    speech.say("two")
    speech.finish()
    await asyncio.wait_for(ear.end.wait(), 60)
    kinds = [type(heard) for heard in ear.heard]
    assert kinds == [Audio, PartSpoken, Audio, PartSpoken, Finished]
    assert ear.heard[2] == Audio(b"anntwo")


async def test_a_text_that_cannot_be_spoken_fails_its_speech_alone(
    workers: Workers, tmp_path: Path
) -> None:
    voice, first, second = Voice(tmp_path), Ear(), Ear()
    one = workers.begin(voice, REQUEST, first)
    two = workers.begin(voice, REQUEST, second)
    one.say("fail")
    two.say("two")
    two.finish()
    await asyncio.wait_for(second.end.wait(), 60)
    (failed,) = first.heard
    assert isinstance(failed, Failed)
    assert failed.failure.message == "voice: there is no such"
    assert isinstance(second.heard[-1], Finished)


async def test_a_worker_that_dies_fails_its_speeches_and_is_started_again(
    workers: Workers, tmp_path: Path
) -> None:
    voice, first, second = Voice(tmp_path), Ear(), Ear()
    workers.begin(voice, REQUEST, first).say("die")
    await asyncio.wait_for(first.end.wait(), 60)
    (failed,) = first.heard
    assert isinstance(failed, Failed)
    assert failed.failure.kind is Kind.CONNECTION_LOST
    await asyncio.sleep(0)
    speech = workers.begin(voice, REQUEST, second)
    speech.say("two")
    speech.finish()
    await asyncio.wait_for(second.end.wait(), 60)
    assert isinstance(second.heard[-1], Finished)


async def test_a_cancelled_speech_is_heard_no_more(workers: Workers, tmp_path: Path) -> None:
    voice, first, second = Voice(tmp_path), Ear(), Ear()
    one = workers.begin(voice, REQUEST, first)
    one.say("one")
    one.cancel()
    two = workers.begin(voice, REQUEST, second)
    two.say("two")
    two.finish()
    await asyncio.wait_for(second.end.wait(), 60)
    assert first.heard == []


async def test_a_voice_that_cannot_run_says_why(workers: Workers, tmp_path: Path) -> None:
    voice, ear = Voice(tmp_path), Ear()
    voice.problem = "run `gateway models fetch kokoro`"
    workers.begin(voice, REQUEST, ear).say("one")
    (failed,) = ear.heard
    assert isinstance(failed, Failed)
    assert "models fetch" in failed.failure.message


async def test_the_worker_of_a_voice_that_ended_ends(workers: Workers, tmp_path: Path) -> None:
    voice, ear = Voice(tmp_path), Ear()
    speech = workers.begin(voice, REQUEST, ear)
    speech.say("one")
    speech.finish()
    await asyncio.wait_for(ear.end.wait(), 60)
    process = workers._workers[voice]._process
    assert process is not None
    await workers.end(voice)
    await workers.end(voice)
    assert process.returncode is not None
    assert not workers._workers


async def test_a_speech_that_goes_on_after_its_worker_has_died_is_told_so(
    workers: Workers, tmp_path: Path
) -> None:
    voice, between, dies = Voice(tmp_path), Ear(), Ear()
    speech = workers.begin(voice, REQUEST, between)  # nothing to say when the worker dies
    workers.begin(voice, REQUEST, dies).say("die")
    await asyncio.wait_for(dies.end.wait(), 60)
    await asyncio.wait_for(workers._workers[voice].task, 60)
    speech.say("two")
    await asyncio.wait_for(between.end.wait(), 5)
    (failed,) = between.heard
    assert isinstance(failed, Failed)
    assert failed.failure.kind is Kind.CONNECTION_LOST
