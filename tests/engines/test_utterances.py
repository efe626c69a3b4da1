"""A stream of utterances to a model of this machine, whose process is a value here."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from gateway.engines import utterances, vad
from gateway.engines.batcher import Batcher
from gateway.engines.segmenter import Transcribe
from gateway.engines.utterances import Interims, LocalWhisper, UtteranceStream
from gateway.engines.whisper import LanguageMemory, WhisperError
from gateway.runtime.loop import Inbox
from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import Audio, Failed, Flush, LocalModel, LocalTarget

MODEL = LocalModel("tiny", "/models/tiny")
LOUD = b"\x00\x40" * vad.RATE


class Process(Executor):
    """Does what it is asked, and fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def submit(self, *asked: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(self._error)
        return future


@pytest.fixture
def detector() -> Iterator[Batcher[vad.VadRequest, list[float]]]:
    """Takes everything for speech."""
    batcher: Batcher[vad.VadRequest, list[float]] = Batcher(
        lambda asked: [[1.0] * (len(one.pcm) // (2 * vad.CHUNK)) for one in asked],
        batch_max=4,
        name="vad",
    )
    yield batcher
    batcher.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BrokenProcessPool(), Kind.UPSTREAM_ERROR),
        (WhisperError("no such model"), Kind.UPSTREAM_NOT_FOUND),
        (RuntimeError("CUDA failed with error out of memory"), Kind.UPSTREAM_ERROR),
    ],
)
async def test_a_model_that_fails_on_an_utterance_is_told_and_the_next_engine_asked(
    detector: Batcher[vad.VadRequest, list[float]], error: Exception, kind: Kind
) -> None:
    local = LocalWhisper(MODEL)
    local._pool = Process(error)
    stream = UtteranceStream(LocalTarget(MODEL), local, detector, Interims())
    inbox: Inbox[Any] = Inbox()
    listening = asyncio.create_task(stream.listen(1, inbox))
    await asyncio.sleep(0)
    stream.write(Audio(LOUD))
    stream.write(Flush())

    failed: list[Failed] = []
    async with asyncio.timeout(60):
        while not failed:
            frame: Any = await inbox.next(None, lambda: 0.0)
            failed = [one for one in frame.data if isinstance(one, Failed)]
    assert [one.failure.kind for one in failed] == [kind]
    await stream.close()
    await listening


class Stuck(Executor):
    """Never has an answer."""

    def submit(self, *asked: Any, **more: Any) -> Future[Any]:
        return Future()


@pytest.mark.parametrize(
    ("answered_s_ago", "is_kept"),
    [(3600.0, False), (0.0, True), (None, True)],
    ids=["hangs", "has much to do", "still loads"],
)
async def test_a_process_that_hangs_is_replaced(
    detector: Batcher[vad.VadRequest, list[float]],
    monkeypatch: pytest.MonkeyPatch,
    answered_s_ago: float | None,
    is_kept: bool,
) -> None:
    local = LocalWhisper(MODEL)
    local._pool = Stuck()
    if answered_s_ago is not None:
        local._answered_at = time.monotonic() - answered_s_ago
    stream = UtteranceStream(LocalTarget(MODEL), local, detector, Interims())
    timeout = asyncio.timeout
    with monkeypatch.context() as over:
        over.setattr(asyncio, "timeout", lambda delay: timeout(0.0))
        await stream._transcribe(Transcribe(1, LOUD, interim=False, prompt=""))
    assert (local._pool is not None) == is_kept
    await stream.close()


@pytest.mark.parametrize(("again_s", "is_kept"), [(-1.0, False), (3600.0, True)])
async def test_a_model_that_could_not_be_loaded_is_loaded_anew_after_a_while(
    monkeypatch: pytest.MonkeyPatch, again_s: float, is_kept: bool
) -> None:
    monkeypatch.setattr(utterances, "LOAD_AGAIN_S", again_s)
    local = LocalWhisper(MODEL)
    local._pool, local._started_at = Process(WhisperError("no hub")), time.monotonic()
    asked = Transcribe(1, LOUD, interim=False, prompt="")
    await local.transcribe(asked, LocalTarget(MODEL), LanguageMemory())
    assert (local._pool is not None) == is_kept


def test_a_machine_without_room_for_a_process_still_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(Executor):
        def __init__(self, *asked: Any, **more: Any) -> None:
            pass

        def submit(self, *asked: Any, **more: Any) -> Future[Any]:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(utterances, "ProcessPoolExecutor", Full)
    LocalWhisper(MODEL).warm()


def test_a_process_that_hangs_is_ended_with_the_server() -> None:
    local = LocalWhisper(MODEL)
    context = multiprocessing.get_context("spawn")
    local._pool = ProcessPoolExecutor(1, mp_context=context)
    asked = local._pool.submit(time.sleep, 3600)
    local.close()
    assert isinstance(asked.exception(60), BrokenProcessPool)  # who waits for it is told
