"""Voices that run beside the gateway: one process for each, so that they never block the relay.

Both directions carry frames: a little-endian uint32 length, one byte for the kind, a uint32 job
number, and a payload (JSON to the worker; samples, text or nothing from it). A job is one text;
jobs are done in order, those of cancelled syntheses are skipped.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import orjson

from gateway.upstreams.errors import Failure, Kind, presentable
from gateway.upstreams.tts import (
    Audio,
    Failed,
    Finished,
    PartSpoken,
    ProcessVoice,
    Sink,
    SpeechRequest,
)

HEAD: Final = struct.Struct("<IBI")
"""Length of the payload, kind, job."""

# to the worker
SAY: Final = 1
DROP: Final = 2
# from the worker
READY: Final = 3
AUDIO: Final = 4
SPOKEN: Final = 5
FAILED: Final = 6

JOBS_MAX: Final = 256
"""Texts that wait for one worker; a further one finds it overloaded."""

PAYLOAD_BYTES_MAX: Final = 16 << 20
"""Longest payload; a longer one means that the stream is out of step."""

_DIED: Final = Failure(Kind.CONNECTION_LOST, "the local voice has died")

_numbers = itertools.count(1)


def frame(kind: int, job: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return HEAD.pack(len(payload), kind, job) + payload


class WorkerSynthesis:
    """A `LiveSynthesis` by a worker: its texts are jobs. A Failure in place of the worker says why
    there is none; it is told with the first text. What is heard waits for nobody, since the worker
    serves all sessions over one pipe: its listener bounds it."""

    __slots__ = ("_finished", "_jobs", "_request", "_sink", "_worker")

    def __init__(self, worker: _Worker | Failure, request: SpeechRequest, sink: Sink) -> None:
        self._worker = worker
        self._request = request
        self._sink: Sink | None = sink
        self._jobs: deque[int] = deque()
        self._finished = False

    def say(self, text: str) -> None:
        if self._sink is None:
            return
        worker = self._worker
        job = worker if isinstance(worker, Failure) else worker.submit(self, self._request, text)
        if isinstance(job, Failure):
            self.lost(job)
        else:
            self._jobs.append(job)

    def finish(self) -> None:
        self._finished = True
        self._end_if_done()

    def cancel(self, *, suspect: bool = False) -> None:
        self._sink = None
        self._drop_jobs()

    def heard(self, job: int, kind: int, payload: bytes) -> None:
        """A frame of one of its jobs."""
        if self._sink is None:
            return
        match kind:
            case _ if kind == AUDIO:
                self._sink(Audio(payload))
            case _ if kind == SPOKEN:
                self._jobs.remove(job)
                self._sink(PartSpoken())
                self._end_if_done()
            case _ if kind == FAILED:
                message = presentable(payload.decode("utf-8", "replace"))
                self._jobs.remove(job)
                self.lost(Failure(Kind.UPSTREAM_ERROR, message))

    def lost(self, failure: Failure) -> None:
        """It cannot go on."""
        sink, self._sink = self._sink, None
        self._drop_jobs()
        if sink is not None:
            sink(Failed(failure))

    def _drop_jobs(self) -> None:
        if not isinstance(self._worker, Failure):
            for job in self._jobs:
                self._worker.drop(job)
        self._jobs.clear()

    def _end_if_done(self) -> None:
        if self._finished and not self._jobs and self._sink is not None:
            sink, self._sink = self._sink, None
            sink(Finished())


class _Worker:
    """One process. It is started at once, and again after it has died."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._owners: dict[int, WorkerSynthesis] = {}
        self._waiting: deque[bytes] = deque()
        self._process: asyncio.subprocess.Process | None = None
        self.dead = False
        self.task = asyncio.create_task(self._run())

    def submit(
        self, synthesis: WorkerSynthesis, request: SpeechRequest, text: str
    ) -> int | Failure:
        if self.dead:  # it had nothing to say for this synthesis when it died
            return _DIED
        if len(self._owners) >= JOBS_MAX:
            return Failure(Kind.OVERLOADED, "the local voice has too much to say already")
        job = next(_numbers) & 0xFFFFFFFF
        self._owners[job] = synthesis
        self._write(frame(SAY, job, orjson.dumps({**asdict(request), "text": text})))
        return job

    def drop(self, job: int) -> None:
        if self._owners.pop(job, None) is not None:
            self._write(frame(DROP, job))

    def _write(self, data: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(data)
        else:
            self._waiting.append(data)

    async def _run(self) -> None:
        failure = Failure(Kind.UNREACHABLE, "the local voice could not be started")
        process: asyncio.subprocess.Process | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            self._process = process
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.writelines(self._waiting)
            self._waiting.clear()
            failure = _DIED
            while True:
                length, kind, job = HEAD.unpack(await process.stdout.readexactly(HEAD.size))
                if length > PAYLOAD_BYTES_MAX:
                    failure = Failure(Kind.PROTOCOL_ERROR, "the local voice sent no valid frame")
                    break
                payload = await process.stdout.readexactly(length)
                owner = self._owners.get(job)
                if owner is None:
                    continue
                if kind in (SPOKEN, FAILED):
                    del self._owners[job]
                owner.heard(job, kind, payload)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.dead = True
            self._process = None
            self._waiting.clear()
            owners, self._owners = set(self._owners.values()), {}
            for synthesis in owners:
                synthesis.lost(failure)
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()


class Workers:
    """The worker of each local voice."""

    def __init__(self) -> None:
        self._workers: dict[ProcessVoice, _Worker] = {}

    def prepare(self, voice: ProcessVoice) -> None:
        """Have the worker running, if it can run here."""
        if voice.check() is None:
            self._worker(voice)

    def _worker(self, voice: ProcessVoice) -> _Worker:
        worker = self._workers.get(voice)
        if worker is None or worker.dead:
            worker = self._workers[voice] = _Worker(voice.command())
        return worker

    def begin(self, voice: ProcessVoice, request: SpeechRequest, sink: Sink) -> WorkerSynthesis:
        """Start a synthesis."""
        problem = voice.check()
        if problem is not None:
            return WorkerSynthesis(Failure(Kind.UPSTREAM_ERROR, problem), request, sink)
        return WorkerSynthesis(self._worker(voice), request, sink)

    async def end(self, voice: ProcessVoice) -> None:
        """End the worker of a voice that nobody will ask any more."""
        worker = self._workers.pop(voice, None)
        if worker is not None:
            worker.task.cancel()
            await asyncio.gather(worker.task, return_exceptions=True)

    async def close(self) -> None:
        for voice in tuple(self._workers):
            await self.end(voice)
