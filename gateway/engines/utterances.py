"""Engines that hear whole utterances: a voice detector cuts the audio for them.

To its session an engine is a connection like any other. The voice detector runs for all streams
together on a thread of its own; Whisper runs in a process of its own, at a lower priority, so that
the relay of other sessions never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.engines import vad, whisper
from gateway.engines.batcher import Batcher, BatchSlot, Timing
from gateway.engines.segmenter import CHUNK, Out, Segmenter, Transcribe
from gateway.engines.speech import SpeechListener
from gateway.engines.types import ModelError
from gateway.runtime.connector import Connector
from gateway.runtime.loop import Inbox
from gateway.telemetry.outcome import RUNS_MAX, EngineRun
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.events import BodyChunk, BodyEnd, ConnectionFailed, ResponseHead, SocketFrame
from gateway.upstreams.stt import (
    Audio,
    Finish,
    Flush,
    HttpTranscriber,
    LocalModel,
    LocalTarget,
    Request,
    Transcript,
)
from gateway.weights import fetch

_logger = logging.getLogger(__name__)

STREAMS_IN_BATCH_MAX: Final = 64
"""Streams whose audio goes through the voice detector together."""

WAITING_S_MAX: Final = 60.0
"""Audio of one stream that waits for the voice detector; with more the machine is overloaded."""

TRANSCRIBE_S_MAX: Final = 60.0
"""A transcription that takes longer has failed; the first one may load a model."""

LOAD_AGAIN_S: Final = 30.0
"""A model that could not be loaded is tried again after so long: its files may be there by then, or
the hub that has them be reached."""

ANSWER_BYTES_MAX: Final = 4 << 20
"""Longest answer of a server."""

SLOW_SHARE: Final = 0.5
"""A machine that needs more of an utterance's time than this for it has none for interims."""

_CHUNK_BYTES: Final = 2 * CHUNK
_VAD_STALE_S: Final = 3600.0  # audio is never overtaken: what waits is heard


@dataclass(slots=True)
class Interims:
    """Transcriptions of utterances that were still open, which a server was asked for: how many,
    and seconds of audio sent for them, which some servers bill. `runs`: all transcriptions of the
    session, RUNS_MAX of them."""

    count: int = 0
    audio_s: float = 0.0
    runs: list[EngineRun] = field(default_factory=list)

    def ran(self, engine: str, asked: Transcribe, began: float, *, failed: bool) -> None:
        """A transcription has ended."""
        if len(self.runs) < RUNS_MAX:
            facts = {
                "audio_s": round(len(asked.pcm) / 2 / vad.RATE, 3),
                "interim": asked.interim,
                "early": asked.early,
            }
            self.runs.append(EngineRun(engine, began, time.monotonic(), facts, failed))


class UtteranceEngines:
    """One for each process: the voice detector, and the models of this machine."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._batcher: Batcher[vad.VadRequest, list[float]] | None = None
        self._local: dict[LocalModel, LocalWhisper] = {}

    def open(self, engine: LocalTarget, interims: Interims) -> UtteranceStream | Failure:
        """A stream of utterances to `engine`, or why there is none. `interims` counts its own."""
        if engine.refused is not None:
            return engine.refused
        if isinstance(engine.transcriber, LocalModel):
            transcriber: LocalWhisper | HttpWhisper = self._local_whisper(engine.transcriber)
        else:
            transcriber = HttpWhisper(engine.transcriber, self._connector, interims)
        return UtteranceStream(engine, transcriber, self._detector(), interims)

    def speech(self, heard: Callable[[float, float], None]) -> SpeechListener:
        """A listener for where somebody speaks; see `SpeechListener`."""
        return SpeechListener(self._detector(), heard)

    def warm(self, engine: LocalTarget) -> None:
        """Load a model of this machine now, so that the first caller does not wait for it."""
        if isinstance(engine.transcriber, LocalModel) and engine.refused is None:
            self._local_whisper(engine.transcriber).warm()
            self._detector()

    def _local_whisper(self, model: LocalModel) -> LocalWhisper:
        if model not in self._local:
            self._local[model] = LocalWhisper(model)
        return self._local[model]

    def _detector(self) -> Batcher[vad.VadRequest, list[float]]:
        if self._batcher is None:
            self._batcher = Batcher(
                _load_detector().run,
                batch_max=STREAMS_IN_BATCH_MAX,
                stale_s=_VAD_STALE_S,
                name="vad",
            )
        return self._batcher

    def end(self, models: Iterable[LocalModel]) -> None:
        """End models that nobody will ask any more; one that is asked all the same is loaded."""
        for model in models:
            local = self._local.pop(model, None)
            if local is not None:
                local.close()

    def close(self) -> None:
        if self._batcher is not None:
            self._batcher.close()
        self.end(tuple(self._local))


def _load_detector() -> vad.Vad:
    try:
        folder = fetch.find("silero-vad")
        if folder is not None:
            return vad.SileroVad(folder / "silero_vad_16k.onnx")
        problem = "it is not installed: run `gateway models fetch silero-vad`"
    except (fetch.FetchError, ModelError) as error:
        problem = str(error)
    _logger.warning("speech is found by its loudness alone, for want of Silero VAD: %s", problem)
    return vad.LoudnessVad()


class UtteranceStream:
    """In place of a provider's WebSocket: what is sent are requests, what comes back is heard."""

    def __init__(
        self,
        engine: LocalTarget,
        transcriber: LocalWhisper | HttpWhisper,
        detector: Batcher[vad.VadRequest, list[float]],
        interims: Interims,
    ) -> None:
        self._interims = interims
        self._engine = engine
        self._transcriber = transcriber
        self._cutter = Segmenter(engine.cutting, engine.prompt)
        self._state = vad.VadState()
        self._place: BatchSlot[vad.VadRequest, list[float]] = detector.place(self._detected)
        self._waiting: deque[bytes | Flush | Finish] = deque()
        self._waiting_bytes = 0
        self._asked = False
        self._rest = b""
        self._inbox: Inbox[Any] | None = None
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._memory = whisper.LanguageMemory()
        self._transcribing = 0
        self._interim: asyncio.Task[None] | None = None

    def write(self, frame: Request) -> bool:
        """Take a request; audio is s16le at 16 kHz. Always ready for the next one."""
        match frame:
            case Audio(pcm):
                self._waiting.append(pcm)
                self._waiting_bytes += len(pcm)
            case Flush() | Finish():
                self._waiting.append(frame)
            case _:
                return True
        if self._waiting_bytes > WAITING_S_MAX * 2 * vad.RATE:
            raise ConnectionError("the voice detector cannot keep up")
        self._go_on()
        return True

    async def drained(self) -> None:
        """Nothing is waited for."""

    def _go_on(self) -> None:
        """Give the detector the audio that waits, up to the next flush."""
        while self._waiting and not self._asked:
            if isinstance(self._waiting[0], Flush | Finish):
                request = self._waiting.popleft()
                self._do(self._settled(request))
                continue
            parts = [self._rest]
            while self._waiting and isinstance(self._waiting[0], bytes):
                part = self._waiting.popleft()
                assert isinstance(part, bytes)
                parts.append(part)
            self._waiting_bytes = sum(len(one) for one in self._waiting if isinstance(one, bytes))
            pcm = b"".join(parts)
            whole = len(pcm) // _CHUNK_BYTES * _CHUNK_BYTES
            self._rest = pcm[whole:]
            if whole:
                self._asked = True
                self._place.ask(vad.VadRequest(self._state, pcm[:whole]))

    def _settled(self, request: Any) -> list[Out]:
        out: list[Out] = []
        if self._rest:  # the last bit of audio, too short for the detector
            rest = self._rest.ljust(_CHUNK_BYTES, b"\0")
            self._rest = b""
            out += self._cutter.hear(rest, 0.0)
        out += self._cutter.finish() if isinstance(request, Finish) else self._cutter.flush()
        return out

    def _detected(
        self, heard: vad.VadRequest, probabilities: list[float] | None, timing: Timing | None
    ) -> None:
        self._asked = False
        if probabilities is None:
            self._break(Failure(Kind.INTERNAL, "the voice detector failed"))
            return
        for i, probability in enumerate(probabilities):
            chunk = heard.pcm[i * _CHUNK_BYTES : (i + 1) * _CHUNK_BYTES]
            self._do(self._cutter.hear(chunk, probability))
        self._go_on()

    def _do(self, out: Iterable[Out]) -> None:
        heard = []
        for one in out:
            if isinstance(one, Transcribe):
                self._begin(one)
            else:
                heard.append(one)
        if heard and self._inbox is not None:
            self._inbox.post(SocketFrame(self._number, tuple(heard)))  # type: ignore[arg-type]

    def _begin(self, asked: Transcribe) -> None:
        """Have it transcribed. What it overtakes is no longer wanted, and would be in its way."""
        if self._interim is not None:
            self._interim.cancel()
            self._interim = None
        task = asyncio.get_running_loop().create_task(self._transcribe(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if asked.interim or asked.early:
            self._interim = task

    async def _transcribe(self, asked: Transcribe) -> None:
        answer: Transcript | Failure | None = None
        if not self._has_to_wait(asked):
            self._transcribing += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(TRANSCRIBE_S_MAX):
                    answer = await self._transcriber.transcribe(asked, self._engine, self._memory)
            except TimeoutError:
                answer = Failure(Kind.TIMEOUT, "the transcription took too long")
                if isinstance(self._transcriber, LocalWhisper):
                    self._transcriber.end_if_it_hangs()
            finally:
                self._transcribing -= 1
                failed = not isinstance(answer, Transcript)
                is_ours = isinstance(self._transcriber, LocalWhisper)
                engine = "whisper" if is_ours else "transcription"
                self._interims.ran(engine, asked, began, failed=failed)
        self._do(self._cutter.answered(asked.number, answer))

    def _has_to_wait(self, asked: Transcribe) -> bool:
        """Whether it would make the finals of others wait."""
        if asked.early:
            return not self._transcriber.has_room(self._transcribing)
        return asked.interim and self._transcriber.busy

    def _break(self, failure: Failure) -> None:
        if self._inbox is not None:
            self._inbox.post(ConnectionFailed(self._number, failure))

    async def listen(self, number: int, inbox: Inbox[Any]) -> None:
        """Put what is heard into `inbox` until the stream is closed."""
        self._number, self._inbox = number, inbox
        await self._over.wait()

    async def close(self) -> None:
        self.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def abort(self) -> None:
        self._inbox = None
        self._place.leave()
        self._over.set()


class LocalWhisper:
    """A Whisper model in processes of its own. They start with the first utterance."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self._pool: Executor | None = None
        self._started_at = 0.0
        self._answered_at: float | None = None  # by the processes that run now
        self._running = 0
        self._share = 0.0  # seconds of work for a second of audio, of the last utterance

    @property
    def busy(self) -> bool:
        """Whether an interim would make a final wait."""
        return self._running >= self._model.workers or self._share > SLOW_SHARE

    def has_room(self, own: int) -> bool:
        """Whether a worker is free, or would be but for `own` requests of the one who asks."""
        return self._running - own < self._model.workers

    async def transcribe(
        self, asked: Transcribe, engine: LocalTarget, memory: whisper.LanguageMemory
    ) -> Transcript | Failure:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        pool = self._started()
        try:
            work = pool.submit(
                whisper.transcribe,
                asked.pcm,
                engine.language,
                asked.prompt,
                not asked.interim,
                memory.language,
            )
            self._running += 1
            # not when nobody waits for it any more: a worker that has begun goes on
            work.add_done_callback(
                lambda done: loop.call_soon_threadsafe(self._ended, pool, done.cancelled())
            )
            heard = await asyncio.wrap_future(work)
        except BrokenProcessPool:
            self._replace(pool)
            return Failure(Kind.UPSTREAM_ERROR, "the local engine's process ended")
        except whisper.WhisperError as error:
            if time.monotonic() - self._started_at > LOAD_AGAIN_S:
                self._replace(pool)
            return Failure(Kind.UPSTREAM_NOT_FOUND, f"the local engine failed: {error}")
        except Exception as error:  # whatever the library raises: a GPU without memory
            return Failure(Kind.UPSTREAM_ERROR, f"the local engine failed: {error}"[:300])
        audio_s = len(asked.pcm) / 2 / vad.RATE
        self._share = (time.monotonic() - began) / max(1.0, audio_s)
        if not asked.interim:
            memory.heard(heard, audio_s)
        return heard.transcript

    def _ended(self, pool: Executor, was_cancelled: bool) -> None:
        self._running -= 1
        if pool is self._pool and not was_cancelled:
            self._answered_at = time.monotonic()

    def end_if_it_hangs(self) -> None:
        """A request has waited for TRANSCRIBE_S_MAX: end processes that have answered nobody for so
        long, the next utterance starts them anew. Those that never have may still load."""
        answered_at = self._answered_at
        if answered_at is not None and time.monotonic() - answered_at > TRANSCRIBE_S_MAX:
            _logger.error(
                "the local recogniser hangs, and is ended", extra={"model": self._model.name}
            )
            self.close()

    def _replace(self, pool: Executor) -> None:
        """Have the next utterance start processes anew, unless another has."""
        if self._pool is pool:
            self._pool = None
            pool.shutdown(wait=False)  # what others have asked of it is still answered

    def warm(self) -> None:
        """Start the processes, unless they run."""
        if self._pool is not None:
            return
        # a machine without room for one tells the first utterance, and not who starts or reloads
        with contextlib.suppress(OSError, BrokenProcessPool):
            for _ in range(self._model.workers):
                self._started().submit(whisper.ready)

    def _started(self) -> Executor:
        if self._pool is None:
            model = self._model
            self._started_at, self._answered_at = time.monotonic(), None
            self._pool = ProcessPoolExecutor(
                model.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=whisper.load,
                initargs=(model.path, model.device, model.compute_type, model.threads),
            )
        return self._pool

    def close(self) -> None:
        """End the processes, also one that loads a model or hangs: Python would wait for it before
        it exits."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # from Python 3.14 on that is pool.kill_workers()
        workers = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False)
        for worker in workers:
            worker.kill()


class HttpWhisper:
    """A server that takes recordings, for one stream. It says nothing of its load, so interims go
    by how long it took last: one at a time, none to a server that is slow."""

    def __init__(
        self, transcriber: HttpTranscriber, connector: Connector, interims: Interims
    ) -> None:
        self._transcriber = transcriber
        self._connector = connector
        self._interims = interims
        self._share = 0.0  # seconds of work for a second of audio, of the last utterance

    @property
    def busy(self) -> bool:
        """Whether an interim would come too late to be of use."""
        return self._share > SLOW_SHARE

    def has_room(self, own: int) -> bool:
        return True

    async def transcribe(
        self, asked: Transcribe, engine: LocalTarget, memory: whisper.LanguageMemory
    ) -> Transcript | Failure:
        audio_s = len(asked.pcm) / 2 / vad.RATE
        if asked.interim:
            self._interims.count += 1
            self._interims.audio_s += audio_s
        began = time.monotonic()
        for _ in range(2):
            answer = await self._ask(asked)
            if answer is not None:
                if isinstance(answer, Transcript):
                    self._share = (time.monotonic() - began) / max(1.0, audio_s)
                return answer
        return Failure(Kind.UPSTREAM_REFUSED, "the server takes no form of request that is known")

    async def _ask(self, asked: Transcribe) -> Transcript | Failure | None:
        inbox: Inbox[Any] = Inbox(1 << 20)  # bounded by ANSWER_BYTES_MAX
        dial = self._transcriber.request(asked.pcm, asked.prompt)
        request = asyncio.create_task(self._connector.request(dial, 0, inbox, 5.0))
        head: ResponseHead | None = None
        body = bytearray()
        try:
            while True:
                match await inbox.next(None, time.monotonic):
                    case ResponseHead() as head:
                        pass
                    case BodyChunk(_, data):
                        body += data
                        if len(body) > ANSWER_BYTES_MAX:
                            return Failure(Kind.PROTOCOL_ERROR, "the server's answer is too long")
                    case BodyEnd():
                        assert head is not None
                        return self._transcriber.read(head.status, head.headers, bytes(body))
                    case ConnectionFailed(_, failure):
                        return failure
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            inbox.close()
