"""What a client of /realtime has said, kept for the next provider until a response has begun. Pure.

Of its audio the newest `seconds` are kept; of all else everything, since a conversation without one
of its items is another one. What is larger than `size` (bytes of text) without any audio is kept no
longer: the session then stays where it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gateway.upstreams.realtime import ClientEvent


class Replay:
    """Events in the order in which they came."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._events: dict[int, ClientEvent] = {}
        self._audio: deque[tuple[int, float]] = deque()  # number and seconds of an append
        self._pending = 0  # appends at the end of `_audio` that no commit has taken
        self._number = 0
        self._held_s = 0.0
        self._bytes = 0
        self.whole = True
        """Whether all is there that must not be left out."""

    def __iter__(self) -> Iterator[ClientEvent]:
        return iter(tuple(self._events.values()))

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: ClientEvent, audio_s: float = 0.0) -> None:
        """Keep `event`; `audio_s` of audio are in it."""
        if not self.whole:
            return
        if event.type == "input_audio_buffer.clear":
            while self._pending:
                self._drop(*self._audio.pop())
                self._pending -= 1
            return
        self._number += 1
        self._events[self._number] = event
        self._bytes += len(event.text)
        if event.type == "input_audio_buffer.append":
            self._audio.append((self._number, audio_s))
            self._pending += 1
            self._held_s += audio_s
        elif event.type == "input_audio_buffer.commit":
            self._pending = 0
        while self._audio and (self._held_s > self._seconds or self._bytes > self._size):
            self._drop(*self._audio.popleft())
            self._pending = min(self._pending, len(self._audio))
        if self._bytes > self._size:
            self.whole = False
            self._events.clear()

    def _drop(self, number: int, audio_s: float) -> None:
        self._bytes -= len(self._events.pop(number).text)
        self._held_s -= audio_s
