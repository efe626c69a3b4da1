"""Keeps what is worth learning from, while calls go on: overlaps of the calls of some keys, until
it is known what followed, and then those that are disputed, in a `Vault`.

Nothing here exists while learning is off. All but the writing happens on the event loop; files are
written on a thread. Of another process, /stt of the same call is heard by `hear`.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from gateway.engines.interruption.disputed import (
    GOES_ON_S,
    SETTLED_S,
    CallIds,
    Followed,
    Said,
    Words,
    is_disputed,
    kind_of_words,
    label_of,
)
from gateway.engines.interruption.own_voice import Voice
from gateway.engines.interruption.vault import SWEEP_WINDOWS, Kept, Vault, VaultError
from gateway.settings.bargein import BargeinConfig, LearnConfig, learn_key
from gateway.settings.section import expanded
from gateway.telemetry.metrics import Metrics

_logger = logging.getLogger(__name__)

OVERLAPS_MAX: Final = 512
"""That wait for what follows, 96 kB each at most; the oldest is dropped then."""

CALLS_MAX: Final = 2000
"""Calls of which it is remembered what was said, of late."""

WAITING_MAX: Final = 64
"""Windows that wait to be written; further ones are not kept."""

CALM_S: Final = 1.5
"""Without a window for so long an overlap is over, as in conversations/bargein/session.py."""

SWEEP_S: Final = 600.0
"""So often what is too old is deleted."""


def learn_folder(config: LearnConfig) -> Path:
    """Where everything about learning lies."""
    if config.folder is not None:
        return config.folder
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "parley" / "bargein"


def model_path(config: BargeinConfig, name: str) -> Path:
    """The file of `bargein.models`: a name without a folder is one that was published."""
    path = expanded(Path(name))
    return learn_folder(config.learn) / "models" / path if path.name == name else path


@dataclass(slots=True)
class Overlap:
    """One stretch of a caller's sound while the agent speaks."""

    ids: CallIds
    version: str
    threshold: float
    began: float
    last_at: float
    window: bytes
    claim: float = 0.0
    detected: bool = False
    sent_frames: int = 0
    """Frames of the agent's voice that had been sent by `last_at`."""


WINDOW_BYTES_MAX: Final = 96_000
"""3 s at 16 kHz, 16 bits."""


class Overlaps:
    """Of one session of /bargein."""

    __slots__ = ("_ids", "_keeper", "_now", "threshold", "version")

    def __init__(self, keeper: LearningKeeper, ids: CallIds, version: str) -> None:
        self._keeper = keeper
        self._ids = ids
        self._now: Overlap | None = None
        self.version = version
        self.threshold = 0.5

    def heard(self, window: bytes, now: float) -> None:
        """A window came. Of an overlap that is longer than one, its beginning is kept."""
        overlap = self._now
        if overlap is None or now - overlap.last_at > CALM_S:
            overlap = self._now = Overlap(self._ids, self.version, self.threshold, now, now, window)
            self._keeper.begin(overlap)
        elif len(overlap.window) < WINDOW_BYTES_MAX:
            overlap.window = window
        overlap.last_at = now
        overlap.sent_frames = self._keeper.sent_frames(self._ids.call)

    def answered(self, claim: float, *, detected: bool) -> None:
        """What the model said of the last window that is kept."""
        if (overlap := self._now) is not None:
            overlap.claim = max(overlap.claim, claim)
            overlap.detected |= detected


class Hearing:
    """Of one session of /stt: tells of which kind the words of its finals are."""

    __slots__ = ("_call", "_heard_s", "_keeper")

    def __init__(self, keeper: LearningKeeper, call: str) -> None:
        self._keeper = keeper
        self._call = call
        self._heard_s = 0.0

    def listens(self, heard_s: float, now: float) -> None:
        """So much of the caller's audio has been taken so far. To be told every few seconds."""
        if heard_s > self._heard_s:
            self._heard_s = heard_s
            self._keeper.tell(self._call, LISTENS, now, now)

    def sent(self, text: str, heard_s: float, now: float) -> None:
        """A message that the client is sent; it may be a final. `heard_s` of the session's audio
        have come by `now`."""
        if not text.startswith(_FINAL):
            return
        said = orjson.loads(text)
        began = now - heard_s + said["start"]
        kind = kind_of_words(said["transcript"])
        what = UNCLEAR if kind is None else kind.value
        self._keeper.tell(self._call, what, began, began + said["duration"])


_FINAL: Final = '{"type":"final_transcript"'

TURN, LISTENS, UNCLEAR = "turn", "listens", "unclear"
"""What is told: the end-of-turn model says that a turn is over; a recogniser listens; words may be
either. Else one of `Words`."""

_TOLD: Final = frozenset({TURN, LISTENS, UNCLEAR, *Words})

OnTold = Callable[[str, str, float, float], None]
"""Call, what, from when, until when (`time.monotonic`)."""


class LearningKeeper:
    """One for each process. `sent` tells what the agent of a call was sent to say."""

    def __init__(
        self,
        config: LearnConfig,
        metrics: Metrics,
        sent: Callable[[str], Voice | None] | None = None,
    ) -> None:
        self._metrics = metrics
        self._sent = sent
        self._calls: OrderedDict[str, Followed] = OrderedDict()
        self._overlaps: deque[Overlap] = deque()
        self._writing: queue.Queue[Kept | None] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None
        self._random = random.Random()  # noqa: S311 - which windows are a sample
        self._swept_at = 0.0
        self.on_told: OnTold | None = None
        """What was told here, for other processes."""
        self.config = LearnConfig()
        self._vault: Vault | None = None
        self.use(config)

    def use(self, config: LearnConfig) -> None:
        """Go by a new configuration from now on."""
        self.config = config
        if not config.is_on:
            self._vault = None
            self._overlaps.clear()
            self._calls.clear()
            return
        assert config.secret is not None
        key = learn_key(config.secret)
        assert key is not None
        self._vault = Vault(learn_folder(config), key)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="learning", daemon=True)
            self._thread.start()

    def overlaps(self, ids: CallIds, version: str) -> Overlaps | None:
        """For a session of /bargein; None: nothing of this call is kept."""
        wanted = self._vault is not None and ids.call and self.config.wants(ids.key)
        return Overlaps(self, ids, version) if wanted else None

    def hearing(self, call: str, key: str) -> Hearing | None:
        """For a session of /stt; None: nobody wants to know."""
        wanted = self._vault is not None and call and self.config.wants(key)
        return Hearing(self, call) if wanted else None

    def turns(self, call: str, key: str) -> Callable[[float], None] | None:
        """For a session of /eot: to be called when the model says that a turn is over. None: nobody
        wants to know."""
        wanted = self._vault is not None and call and self.config.wants(key)
        return (lambda now: self.tell(call, TURN, now, now)) if wanted else None

    def tell(self, call: str, what: str, began: float, ended: float) -> None:
        """Something followed in a call, here."""
        if self._vault is None:
            return
        self.hear(call, what, began, ended)
        if self.on_told is not None:
            self.on_told(call, what, began, ended)

    def hear(self, call: str, what: str, began: float, ended: float) -> None:
        """Something followed in a call, here or at another process."""
        if self._vault is None or what not in _TOLD:
            return
        followed = self._calls.get(call)
        if followed is None:
            followed = self._calls[call] = Followed()
            if len(self._calls) > CALLS_MAX:
                self._calls.popitem(last=False)
        self._calls.move_to_end(call)
        if what == TURN:
            followed.turns.append(ended)
            return
        followed.heard_at = max(followed.heard_at, ended)
        if what != LISTENS:
            words = None if what == UNCLEAR else Words(what)
            followed.said.append(Said(words, began, ended))

    def sent_frames(self, call: str) -> int:
        """How many frames of the agent's voice have been sent so far."""
        voice = self._sent(call) if self._sent is not None else None
        return 0 if voice is None else voice.said

    def _went_on(self, overlap: Overlap) -> bool:
        """Whether the agent was sent more to say, to be heard right after the overlap."""
        voice = self._sent(overlap.ids.call) if self._sent is not None else None
        if voice is None:
            return False
        new = voice.earliest_of(overlap.sent_frames)
        return bool(((new > overlap.last_at) & (new < overlap.last_at + GOES_ON_S)).any())

    def begin(self, overlap: Overlap) -> None:
        """Wait for what follows it. A session may be open for longer than its key is wanted."""
        if self._vault is None or not self.config.wants(overlap.ids.key):
            return
        self._overlaps.append(overlap)
        if len(self._overlaps) > OVERLAPS_MAX:
            self._overlaps.popleft()

    def tick(self, now: float) -> None:
        """Now and then: look at overlaps of which is known what followed."""
        vault = self._vault
        if vault is None:
            return
        waiting: deque[Overlap] = deque()
        for overlap in self._overlaps:
            if now - overlap.last_at < SETTLED_S:
                waiting.append(overlap)
            else:
                self._settle(overlap, now)
        self._overlaps = waiting
        if now - self._swept_at > SWEEP_S:
            self._swept_at = now
            self._write(None)

    def _settle(self, overlap: Overlap, now: float) -> None:
        followed = self._calls.get(overlap.ids.call) or Followed()
        label = label_of(overlap.began, overlap.last_at, followed, went_on=self._went_on(overlap))
        agreed = "unknown"
        floor = None
        if label is not None:
            floor = label.label.takes_floor
            agreed = "agreed" if floor == overlap.detected else "cut" if not floor else "missed"
        self._metrics.bargein_followed.labels(overlap.version, agreed).inc()
        config = self.config
        disputed = is_disputed(
            overlap.claim, overlap.threshold, overlap.detected, floor, config.margin
        )
        if not disputed and self._random.random() >= config.control_share:
            return
        self._write(
            Kept(
                at=time.time() - (now - overlap.last_at),
                room=overlap.ids.room,
                job=overlap.ids.job,
                key=overlap.ids.key,
                version=overlap.version,
                threshold=overlap.threshold,
                claim=overlap.claim,
                detected=overlap.detected,
                weight=1.0 if disputed else 1 / config.control_share,
                window=overlap.window,
                label=None if label is None else label.label,
                confidence=0.0 if label is None else label.confidence,
            )
        )

    def _write(self, kept: Kept | None) -> None:
        try:
            self._writing.put_nowait(kept)
        except queue.Full:  # the disk is slow: a window less
            self._metrics.bargein_kept.labels("dropped").inc()

    def _serve(self) -> None:
        """The thread. None stands for a sweep; the end of the process ends it."""
        written = SWEEP_WINDOWS
        told = False
        while True:
            kept = self._writing.get()
            vault, config = self._vault, self.config
            try:
                if vault is None:  # switched off meanwhile: it is not written any more
                    continue
                if kept is not None:
                    vault.add(kept)
                    self._metrics.bargein_kept.labels("kept").inc()
                    written += 1
                if kept is None or written >= SWEEP_WINDOWS:
                    written = 0
                    oldest_at = time.time() - 86_400 * config.keep_days
                    vault.bound(config.windows_max, config.bytes_max, oldest_at)
                told = False
            except VaultError as error:
                self._metrics.bargein_kept.labels("failed").inc()
                if not told:
                    told = True
                    _logger.warning("a window is not kept", extra={"error": str(error)})
            finally:
                self._writing.task_done()

    def join(self) -> None:
        """Wait until all that is waiting has been written, for tests and the end."""
        self._writing.join()
