# ruff: noqa: RUF001  (words of many languages)
"""What of a call is worth keeping to learn from, and its label by what followed. Pure.

An *overlap* is one stretch of a caller's sound while the agent speaks: what a client asks about
window by window. Its label comes from the same call: which words /stt heard there, whether the
agent went on, whether the end-of-turn model was asked. No words are kept, only of which kind they
were.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple

SETTLED_S: Final = 6.0
"""From an overlap until what followed is looked at: recognisers have told their finals by then."""

EARLY_S: Final = 0.4
LATE_S: Final = 0.8
"""Words so long before an overlap, or after it, belong to it."""

GOES_ON_S: Final = 1.5
"""Voice that the agent is sent within so long after an overlap is one that goes on."""

SAID_MAX: Final = 32
"""Finals of a call that are remembered."""

WORDS_MAX: Final = 6
"""So many words at most are a backchannel."""


class CallIds(NamedTuple):
    """Whose call it is: `call` is the same for all connections of a job of a key, empty if nobody
    knows; `room` and `job` are what the client calls them."""

    call: str
    key: str
    room: str
    job: str


class Label(StrEnum):
    """What a caller's sound was."""

    FLOOR = "interruption"
    BACKCHANNEL = "backchannel"
    NOISE = "noise"

    @property
    def takes_floor(self) -> bool:
        return self is Label.FLOOR


class Words(StrEnum):
    """Of which kind a final is."""

    NOTHING = "nothing"
    BACKCHANNEL = "backchannel"
    SENTENCE = "sentence"


# Written for this project; single words, since any row of them is one too.
_LISTENING: Final = frozenset(
    "yeah yep yes yup okay ok mm hmm hm mhm mmhm mmhmm uh huh uhhuh aha right sure wow oh ah great "
    "good nice cool exactly true alright really got it i see all of course gotcha interesting "
    "absolutely definitely perfect fine "
    "ja genau gut ach so stimmt klar alles verstehe richtig echt wirklich sehr "
    "sí si claro vale ajá ya bueno de acuerdo exacto entiendo muy bien perfecto "
    "oui d'accord ouais bien sûr je vois exactement très voilà hum parfait super c'est ça vrai "
    "sì certo va bene esatto capisco davvero giusto "
    "sim tá certo bom entendi isso é uhum com certeza "
    "да угу ага хорошо понятно ладно はい うん ええ そう なるほど हाँ अच्छा ठीक है जी सही".split()
)

_FILLERS: Final = frozenset("um uhm erm er eh ähm äh euh em".split())
"""A word of these alone may be either: nobody knows."""


_BETWEEN_WORDS: Final = re.compile(r"""[\s.,!?;:…।。、！？"“”„«»()\[\]]+""")


def kind_of_words(text: str) -> Words | None:
    """None: it may be either."""
    plain = unicodedata.normalize("NFC", text.lower()).replace("-", "")
    words = [word for word in _BETWEEN_WORDS.split(plain.replace("’", "'")) if word]
    if not words:
        return Words.NOTHING
    if len(words) <= WORDS_MAX and all(word in _LISTENING for word in words):
        return Words.BACKCHANNEL
    if all(word in _FILLERS or word in _LISTENING for word in words):
        return None
    return Words.SENTENCE


@dataclass(frozen=True, slots=True)
class Said:
    """A final of /stt, by the clock of `time.monotonic`."""

    words: Words | None
    began: float
    ended: float


@dataclass(slots=True)
class Followed:
    """What is known of one call, of late."""

    said: deque[Said] = field(default_factory=lambda: deque(maxlen=SAID_MAX))
    turns: deque[float] = field(default_factory=lambda: deque(maxlen=SAID_MAX))
    """When the end-of-turn model said that a turn was over."""
    heard_at: float = -math.inf
    """Until when a recogniser was known to listen."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label, and how sure it is, 0 to 1."""

    label: Label
    confidence: float


def label_of(began: float, ended: float, followed: Followed, *, went_on: bool) -> Labelled | None:
    """The label of an overlap, None if nobody can know. `went_on`: the agent was sent more voice to
    say right after it."""
    near = [
        one for one in followed.said if one.ended >= began - EARLY_S and one.began <= ended + LATE_S
    ]
    kinds = {one.words for one in near if one.words is not Words.NOTHING}
    if Words.SENTENCE in kinds:
        turn = any(began <= at <= ended + SETTLED_S for at in followed.turns)
        sure = 0.9 + (0.05 if turn else 0.0) - (0.2 if went_on else 0.0)
        return Labelled(Label.FLOOR, sure)
    if None in kinds:
        return None
    if Words.BACKCHANNEL in kinds:
        return Labelled(Label.BACKCHANNEL, 0.85 if went_on else 0.7)
    if followed.heard_at >= ended:
        return Labelled(Label.NOISE, 0.8 if went_on else 0.65)
    return None


def log_odds(probability: float) -> float:
    inside = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))


def is_disputed(
    claim: float, threshold: float, detected: bool, floor: bool | None, margin: float
) -> bool:
    """Whether an overlap is worth keeping. `claim`: the probability that a detection rests on, or
    would; `floor`: what followed says, None if nothing."""
    near = abs(log_odds(claim) - log_odds(threshold)) <= margin
    return near or (floor is not None and floor != detected)


def share_of(call: str) -> float:
    """A number from 0 to 1, the same for a call wherever it is asked."""
    return int.from_bytes(sha256(call.encode()).digest()[:6], "big") / 2**48


def version_of(call: str, shares: Sequence[float]) -> int:
    """Which version serves a call: the index of one of `shares`, or -1 for the main one."""
    at = share_of(call)
    for number, share in enumerate(shares):
        if at < share:
            return number
        at -= share
    return -1
