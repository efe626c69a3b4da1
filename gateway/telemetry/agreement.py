"""Whether decisions about interruptions agree with what the caller then said.

A call has connections of its own for /bargein and /stt, which say the same job. What recognisers
hear of it is kept here for a while, and some time after an overlap that was decided it is looked
what followed: after an interruption words should, after one that was held no sentence. Times are of
`time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

SENTENCE_WORDS: Final = 4
"""From so many words on it is no backchannel ("yes", "oh I see") but a sentence."""

FOLLOWED_S: Final = 5.0
"""An utterance that begins so long after an overlap still belongs to it."""

BEFORE_S: Final = 0.5
"""And one that ends so long before its first window, which comes when somebody has been heard for a
moment."""

JUDGED_S: Final = 30.0
"""So long after an overlap its words are here: some recognisers tell of an utterance at its end."""

CALLS_MAX: Final = 5_000
"""Calls whose words are kept, the latest that somebody spoke in."""

WORDS_MAX: Final = 64
"""Utterances of one call that are kept, the latest."""

OVERLAPS_MAX: Final = 10_000
"""Overlaps that wait to be judged; further ones are not."""

SAME_S: Final = 0.25
"""Transcripts that begin no farther apart are of the same utterance: its interims and its final."""

TELL_S: Final = 1.0
"""Other processes are told of a call no more often, unless words become a sentence."""

_WIDE: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
"""Letters of languages that are written without spaces."""


def count_words(text: str) -> int:
    """Words of a transcript; where they are written without spaces, two letters make one."""
    wide = len(_WIDE.findall(text))
    return max(len(text.split()), (wide + 1) // 2)


@dataclass(slots=True)
class _Call:
    """`words`: from when to when each utterance was spoken, and how many words it had at most."""

    words: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=WORDS_MAX))
    told_at: float = float("-inf")
    told: int = 0


@dataclass(frozen=True, slots=True)
class _Overlap:
    call: str
    began: float
    ended: float
    decision: str


class Agreements:
    """One for each process. `count` is told `decision` and what `followed` (see
    metrics.agreement)."""

    def __init__(self, count: Callable[[str, str], None]) -> None:
        self._count = count
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._overlaps: deque[_Overlap] = deque()
        self.on_words: Callable[[str, float, float, int], None] | None = None
        """Told what other processes should know: call, times, words."""

    def said(self, call: str, since: float, at: float, words: int) -> None:
        """A recogniser here has heard so many words of a caller, from `since` to `at`."""
        kept = self.hear(call, since, at, words)
        longer = words >= SENTENCE_WORDS > kept.told
        if self.on_words is not None and (longer or at - kept.told_at >= TELL_S):
            kept.told_at, kept.told = at, words
            self.on_words(call, since, at, words)

    def hear(self, call: str, since: float, at: float, words: int) -> _Call:
        """The same of another process."""
        kept = self._calls.get(call)
        if kept is None:
            kept = self._calls[call] = _Call()
            if len(self._calls) > CALLS_MAX:
                self._calls.popitem(last=False)
        else:
            self._calls.move_to_end(call)
        if kept.words and abs(since - kept.words[-1][0]) <= SAME_S:
            since, until, before = kept.words.pop()
            at, words = max(at, until), max(words, before)
        kept.words.append((since, at, words))
        return kept

    def decided(self, call: str, began: float, ended: float, decision: str) -> None:
        """An overlap is over, or was found to be an interruption."""
        if call and len(self._overlaps) < OVERLAPS_MAX:
            self._overlaps.append(_Overlap(call, began, ended, decision))

    def judge(self, now: float) -> None:
        """Count the overlaps whose words are here. In a call that nobody heard a word of there is
        no recogniser."""
        while self._overlaps and self._overlaps[0].ended + JUDGED_S <= now:
            one = self._overlaps.popleft()
            kept = self._calls.get(one.call)
            if kept is None:
                continue
            most = max(
                (
                    words
                    for since, at, words in kept.words
                    if one.began - BEFORE_S <= at and since <= one.ended + FOLLOWED_S
                ),
                default=0,
            )
            followed = "sentence" if most >= SENTENCE_WORDS else "words" if most else "nothing"
            self._count(one.decision, followed)
