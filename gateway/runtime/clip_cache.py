"""Keeps the audio of texts that are said again and again: in memory, and on disk if wished."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

import orjson

from gateway.conversations.tts.clips import Clip, clip_name
from gateway.conversations.tts.protocol import Style
from gateway.settings.tts import TtsCacheConfig
from gateway.upstreams.tts import Timed

_logger = logging.getLogger(__name__)

WRITES_MAX: Final = 64
"""Clips that wait to be written; more are not kept on disk."""

SUFFIX: Final = ".clip"


class ClipCache:
    """At most `memory_mb` in memory and `disk_mb` in a directory; what was unused for longest goes
    first. Disk is written by a thread of its own, and read only for what is known to be there."""

    def __init__(self, config: TtsCacheConfig) -> None:
        self._config = config
        self._clips: OrderedDict[str, Clip] = OrderedDict()
        self._bytes = 0
        self._disk = _Disk(config.directory, config.disk_mb << 20) if config.directory else None

    def get(self, style: Style, rate: int, text: str) -> Clip | None:
        """The clip of this text, or None."""
        if len(text) > self._config.text_chars:
            return None
        name = clip_name(style, rate, text)
        clip = self._clips.get(name)
        if clip is not None:
            self._clips.move_to_end(name)
            return clip
        if self._disk is not None and (clip := self._disk.read(name)) is not None:
            self._keep(name, clip)
        return clip

    def put(self, style: Style, rate: int, text: str, clip: Clip) -> None:
        """Keep the clip of this text."""
        if len(text) > self._config.text_chars or not clip.pcm:
            return
        name = clip_name(style, rate, text)
        if name not in self._clips:
            self._keep(name, clip)
            if self._disk is not None:
                self._disk.write(name, clip)

    def _keep(self, name: str, clip: Clip) -> None:
        self._clips[name] = clip
        self._bytes += len(clip.pcm)
        while self._bytes > self._config.memory_mb << 20:
            _, oldest = self._clips.popitem(last=False)
            self._bytes -= len(oldest.pcm)

    def close(self) -> None:
        """Write what waits to be written."""
        if self._disk is not None:
            self._disk.close()


class _Disk:
    """A file for each clip: a line of JSON with its words, then its samples."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._writes: queue.Queue[tuple[str, Clip] | None] = queue.Queue(WRITES_MAX)
        folder.mkdir(parents=True, exist_ok=True)
        known = [(entry.stat(), entry) for entry in folder.glob(f"*{SUFFIX}")]
        for stat, entry in sorted(known, key=lambda one: one[0].st_mtime):
            self._sizes[entry.stem] = stat.st_size
        self._thread = threading.Thread(target=self._run, name="tts-cache", daemon=True)
        self._thread.start()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{SUFFIX}"

    def read(self, name: str) -> Clip | None:
        with self._lock:
            if name not in self._sizes:
                return None
            self._sizes.move_to_end(name)
        try:
            head, _, pcm = self._path(name).read_bytes().partition(b"\n")
            words = tuple(Timed(str(t), float(s), float(e)) for t, s, e in orjson.loads(head))
        except (OSError, ValueError, TypeError):
            with self._lock:
                self._sizes.pop(name, None)  # somebody else removed or spoilt it
            return None
        return Clip(pcm, words)

    def write(self, name: str, clip: Clip) -> None:
        with contextlib.suppress(queue.Full):
            self._writes.put_nowait((name, clip))

    def close(self) -> None:
        self._writes.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (one := self._writes.get()) is not None:
            try:
                self._store(*one)
            except OSError as error:
                _logger.warning("cannot keep audio on disk", extra={"reason": error.strerror})

    def _store(self, name: str, clip: Clip) -> None:
        words = [[word.text, word.start, word.end] for word in clip.words]
        data = orjson.dumps(words) + b"\n" + clip.pcm
        # in one step: another process may share the directory
        handle, temporary = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(self._path(name))
        gone = []
        with self._lock:
            self._sizes[name] = len(data)
            while sum(self._sizes.values()) > self._bytes_max and len(self._sizes) > 1:
                gone.append(self._sizes.popitem(last=False)[0])
        for old in gone:
            self._path(old).unlink(missing_ok=True)
