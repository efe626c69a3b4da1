"""Keeps the audio of texts that are said again and again: in memory, and on disk if wished."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import queue
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from gateway.settings.tts import TtsCacheConfig
from gateway.upstreams.tts import Clip, Timed

_logger = logging.getLogger(__name__)

WRITES_MAX: Final = 64
"""Jobs that wait for the disk when a further clip is no longer written."""

READS_MAX: Final = 256
"""The same when a further look-up finds nothing: a provider would be faster."""

SUFFIX: Final = ".clip"

Found = Callable[[Clip | None], None]
"""Takes the answer to a look-up, on the event loop."""


class ClipCache:
    """Clips by key (a string that is a file name): at most `memory_mb` in memory and `disk_mb` in a
    directory; what was unused for longest goes first. The disk is read and written by a thread of
    its own, and read only for what is known to be there."""

    def __init__(self, config: TtsCacheConfig) -> None:
        self._bytes_max = config.memory_mb << 20
        self._clips: OrderedDict[str, Clip] = OrderedDict()
        self._bytes = 0
        self._disk: _Disk | None = None
        if config.directory is not None:
            try:
                self._disk = _Disk(config.directory, config.disk_mb << 20)
            except OSError as error:  # a cache is no reason not to serve
                _logger.error(  # noqa: TRY400 - the reason says it all
                    "audio is kept in memory alone: tts.cache.directory cannot be used",
                    extra={"directory": str(config.directory), "reason": error.strerror},
                )

    def look_up(self, key: str, found: Found) -> None:
        """Tell `found` the clip, or None: at once, unless it has to be read from the disk."""
        clip = self._clips.get(key)
        if clip is not None:
            self._clips.move_to_end(key)
            found(clip)
        elif self._disk is None or key not in self._disk:
            found(None)
        else:
            self._disk.read(key, lambda read: found(self._remember(key, read)))

    def put(self, key: str, clip: Clip) -> None:
        """Keep a clip; an empty one is not worth it."""
        if clip.pcm and key not in self._clips:
            self._remember(key, clip)
            if self._disk is not None:
                self._disk.write(key, clip)

    def close(self) -> None:
        """Write what waits to be written."""
        if self._disk is not None:
            self._disk.close()

    def _remember(self, key: str, clip: Clip | None) -> Clip | None:
        if clip is not None and key not in self._clips:
            self._clips[key] = clip
            self._bytes += len(clip.pcm)
            while self._bytes > self._bytes_max:
                _, oldest = self._clips.popitem(last=False)
                self._bytes -= len(oldest.pcm)
        return clip


@dataclass(order=True)
class _Job:
    """For the disk's thread: reads come first, since a caller waits for them, the end last."""

    rank: int
    number: int
    run: Callable[[], None] | None = field(compare=False)


_READ, _WRITE, _END = range(3)


class _Disk:
    """A file for each clip: a line of JSON with its words, then its samples."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()  # of the sizes, held for no longer than it takes to count
        self._numbers = itertools.count()
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        folder.mkdir(parents=True, exist_ok=True)
        known = []
        for entry in folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                known.append((entry.stat(), entry))
        for stat, entry in sorted(known, key=lambda one: one[0].st_mtime):
            self._sizes[entry.stem] = stat.st_size
            self._bytes += stat.st_size
        self._thread = threading.Thread(target=self._run, name="tts-cache", daemon=True)
        self._thread.start()

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._sizes

    def read(self, key: str, found: Found) -> None:
        """Read a clip; `found` is called on the running event loop."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            clip = self._load(key)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(found, clip)

        if not self._submit(_READ, run, READS_MAX):
            found(None)

    def write(self, key: str, clip: Clip) -> None:
        """Write a clip some time later."""
        self._submit(_WRITE, lambda: self._store(key, clip), WRITES_MAX)

    def close(self) -> None:
        self._jobs.put(_Job(_END, next(self._numbers), None))
        self._thread.join()

    def _submit(self, rank: int, run: Callable[[], None], waiting_max: int) -> bool:
        if self._jobs.qsize() >= waiting_max:
            return False
        self._jobs.put(_Job(rank, next(self._numbers), run))
        return True

    def _run(self) -> None:
        while (run := self._jobs.get().run) is not None:
            try:
                run()
            except OSError as error:
                _logger.warning("cannot keep audio on disk", extra={"reason": error.strerror})

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"

    def _load(self, key: str) -> Clip | None:
        try:
            head, _, pcm = self._path(key).read_bytes().partition(b"\n")
            words = tuple(Timed(str(t), float(s), float(e)) for t, s, e in orjson.loads(head))
        except (OSError, ValueError, TypeError):
            with self._lock:
                self._bytes -= self._sizes.pop(key, 0)  # somebody else removed or spoilt it
            return None
        with self._lock:
            if key in self._sizes:
                self._sizes.move_to_end(key)
        return Clip(pcm, words)

    def _store(self, key: str, clip: Clip) -> None:
        words = [[word.text, word.start, word.end] for word in clip.words]
        data = orjson.dumps(words) + b"\n" + clip.pcm
        # in one step: another process may share the directory
        handle, temporary = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).replace(self._path(key))
        except OSError:  # the disk is full: what is there of it would stay, and be counted nowhere
            Path(temporary).unlink(missing_ok=True)
            raise
        gone = []
        with self._lock:
            self._bytes += len(data) - self._sizes.pop(key, 0)
            self._sizes[key] = len(data)
            while self._bytes > self._bytes_max and len(self._sizes) > 1:
                old, size = self._sizes.popitem(last=False)
                self._bytes -= size
                gone.append(old)
        for old in gone:
            self._path(old).unlink(missing_ok=True)
