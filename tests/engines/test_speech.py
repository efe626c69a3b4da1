"""A listener at the voice detector, with a detector that finds speech in what is loud."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.engines import speech, vad
from gateway.engines.batcher import Batcher
from gateway.engines.speech import CHUNK_BYTES, CHUNK_S, SpeechListener

LOUD, QUIET = b"\x00\x40" * vad.CHUNK, bytes(CHUNK_BYTES)


class Detector:
    def __init__(self) -> None:
        self.heard = 0
        self.fails = False

    def run(self, asked: list[vad.VadRequest]) -> list[list[float]]:
        if self.fails:
            raise RuntimeError
        self.heard += sum(len(one.pcm) for one in asked)
        return [
            [float(any(one.pcm[i : i + CHUNK_BYTES])) for i in range(0, len(one.pcm), CHUNK_BYTES)]
            for one in asked
        ]


@pytest.fixture
def detector() -> Detector:
    return Detector()


@pytest.fixture
def batcher(detector: Detector) -> Iterator[Batcher[vad.VadRequest, list[float]]]:
    made = Batcher(detector.run, batch_max=4, name="vad")
    yield made
    made.close()


class Heard(list[tuple[float, float]]):
    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self) < count:
                await asyncio.sleep(0.001)


async def test_each_chunk_is_told_with_its_end_however_the_audio_is_cut(
    batcher: Batcher[vad.VadRequest, list[float]],
) -> None:
    heard = Heard()
    listener = SpeechListener(batcher, lambda *one: heard.append(one))
    pcm = QUIET + LOUD + QUIET
    for at in range(0, len(pcm), 100):
        listener.feed(pcm[at : at + 100])
    await heard.until(3)
    assert [probability for _, probability in heard] == [0.0, 1.0, 0.0]
    assert [until for until, _ in heard] == pytest.approx([CHUNK_S, 2 * CHUNK_S, 3 * CHUNK_S])


async def test_a_detector_that_fails_has_heard_no_speech(
    detector: Detector, batcher: Batcher[vad.VadRequest, list[float]]
) -> None:
    heard = Heard()
    detector.fails = True
    listener = SpeechListener(batcher, lambda *one: heard.append(one))
    listener.feed(LOUD)
    await heard.until(1)
    detector.fails = False
    listener.feed(LOUD)
    await heard.until(2)
    assert [probability for _, probability in heard] == [0.0, 1.0]


async def test_what_waits_is_bounded_and_the_clock_goes_on(
    batcher: Batcher[vad.VadRequest, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "WAITING_S_MAX", 2 * CHUNK_S)
    heard = Heard()
    listener = SpeechListener(batcher, lambda *one: heard.append(one))
    listener.feed(QUIET)  # is asked about
    listener.feed(QUIET * 4)  # two too many
    await heard.until(3)
    assert heard[-1][0] == pytest.approx(5 * CHUNK_S)


async def test_who_has_left_is_told_nothing(
    batcher: Batcher[vad.VadRequest, list[float]],
) -> None:
    heard = Heard()
    listener = SpeechListener(batcher, lambda *one: heard.append(one))
    listener.feed(LOUD)
    listener.leave()
    await asyncio.sleep(0)
    assert heard == []
