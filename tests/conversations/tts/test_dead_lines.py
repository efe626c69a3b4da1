"""A socket dies without a close: it takes what is sent and says nothing. Over every vendor that has
a pool: the caller who finds it out is served on a fresh socket in time, the next one at once."""

from __future__ import annotations

import pytest

from gateway.conversations.tts.pool import (
    DEAD_S,
    NAT_S,
    CloseSocket,
    Deliver,
    OpenSocket,
    PoolAction,
    PoolEvent,
    ReservationTaken,
    SendFrames,
    SynthesisCancelled,
    SynthesisWanted,
    TextFinished,
    TextSaid,
    VoicePool,
)
from gateway.settings.tts import TtsConfig
from gateway.upstreams.events import DEADLINE_PASSED, SocketFrame, SocketOpened
from gateway.upstreams.provider import Account, find, type_names
from gateway.upstreams.tts import Retried, SocketVoice, SpeechRequest
from tests.conversations.tts.test_pool import Voice

BUDGET_S = TtsConfig().first_audio_timeout_s
REQUEST = SpeechRequest("m", "ann", "en", 24000)


def pooled(vendor: str) -> SocketVoice | None:
    offer = find(vendor).tts
    if offer is None:
        return None
    settings = find(vendor).settings()
    found = offer.adapter(Account(vendor, vendor, "https://127.0.0.1:1", "key", settings=settings))
    return found if isinstance(found, SocketVoice) else None


VENDORS = {vendor: voice for vendor in type_names() if (voice := pooled(vendor)) is not None}


class Pool:
    """A pool whose sockets open at once and then say nothing, unless told."""

    def __init__(self, voice: SocketVoice) -> None:
        self.core = VoicePool(4)
        self.voice = voice
        self.now = 0.0
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.sent: dict[int, list[str | bytes]] = {}
        self.retried: list[str] = []

    def handle(self, event: PoolEvent) -> None:
        self.perform(self.core.handle(event, self.now))

    def perform(self, actions: list[PoolAction]) -> None:
        for action in actions:
            match action:
                case OpenSocket(number):
                    self.opened.append(number)
                    self.handle(SocketOpened(number))
                case SendFrames(number, frames):
                    self.sent.setdefault(number, []).extend(frames)
                case CloseSocket(number):
                    self.closed.append(number)
                case Deliver(context, Retried()):
                    self.retried.append(context)

    def wait(self, until: float) -> None:
        while (at := self.core.deadline) is not None and at <= until:
            self.now = max(at, self.now)
            self.handle(DEADLINE_PASSED)
        self.now = until

    def keep(self, count: int) -> None:
        """Have so many sockets open ahead of need."""
        for i in range(count):
            self.handle(ReservationTaken(i, "up", self.voice, REQUEST))

    def speak(self, context: str, *, finish: bool = True) -> None:
        self.handle(SynthesisWanted(context, "up", self.voice, REQUEST))
        self.handle(TextSaid(context, "One sentence. "))
        if finish:
            self.handle(TextFinished(context))


def test_the_vendors_are_those_with_sockets() -> None:
    assert {"cartesia", "deepgram", "elevenlabs", "fishaudio", "inworld", "rime", "xai"} <= set(
        VENDORS
    )


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_caller_who_finds_a_dead_socket_is_served_on_a_fresh_one_and_the_next_at_once(
    vendor: str,
) -> None:
    pool = Pool(VENDORS[vendor])
    pool.keep(3)
    kept = list(pool.opened)
    pool.wait(40.0)
    pool.speak("u1")
    assert set(pool.sent) <= set(kept)
    pool.wait(40.0 + DEAD_S)
    assert pool.retried == ["u1"]
    assert pool.now - 40.0 < BUDGET_S - 1.5
    (fresh,) = set(pool.opened) - set(kept)
    (dead,) = set(pool.sent) - {fresh}
    assert pool.sent[fresh] == pool.sent[dead]
    assert set(pool.closed) == set(kept)
    pool.now += 1.0
    pool.speak("u2")
    (second,) = set(pool.opened) - {*kept, fresh}
    assert pool.sent[second]
    pool.wait(pool.now + 10.0)
    assert pool.retried == ["u1"]


@pytest.mark.parametrize("vendor", VENDORS)
def test_kept_sockets_are_pinged(vendor: str) -> None:
    every_s = VENDORS[vendor].dial(REQUEST).ping_interval_s
    assert every_s is not None
    assert every_s < 60


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_writer_who_is_slow_does_not_make_a_socket_dead_that_waits_for_the_end(
    vendor: str,
) -> None:
    voice = VENDORS[vendor]
    pool = Pool(voice)
    pool.keep(1)
    pool.speak("u1", finish=False)
    pool.wait(DEAD_S + 1.0)
    assert pool.retried == ([] if voice.traits.waits_for_finish else ["u1"])


def test_a_socket_without_pings_is_not_used_after_its_path_may_have_been_forgotten() -> None:
    pool = Pool(Voice(idle_s=900.0))
    pool.keep(1)
    pool.now = NAT_S + 1.0
    pool.speak("u1")
    assert pool.closed == [1]
    assert pool.sent == {2: ["u1:begin", "u1:One sentence. ", "u1:finish"]}


def test_a_socket_without_pings_that_has_just_spoken_is_used_again() -> None:
    pool = Pool(Voice(idle_s=900.0))
    pool.speak("u1")
    pool.now = 200.0
    pool.handle(SocketFrame(1, "u1:done"))
    pool.now = NAT_S + 1.0
    pool.speak("u2")
    assert pool.opened == [1]


def test_one_sign_of_life_is_enough() -> None:
    pool = Pool(Voice())
    pool.keep(2)
    pool.speak("u1")
    pool.now = 1.9
    (asked,) = pool.sent
    pool.handle(SocketFrame(asked, "u1:audio"))
    pool.wait(30.0)
    assert pool.retried == []
    assert pool.closed == []


def test_a_provider_that_was_slow_lately_has_twice_that_time() -> None:
    pool = Pool(Voice())
    pool.speak("u1")
    pool.now = 3.0
    pool.handle(SocketFrame(1, "u1:audio"))
    pool.handle(SocketFrame(1, "u1:done"))
    pool.speak("u2")
    pool.wait(3.0 + 5.9)
    assert pool.retried == []
    pool.wait(3.0 + 6.1)
    assert pool.retried == ["u2"]


def test_a_socket_that_has_shown_life_since_is_not_closed_with_the_dead_one() -> None:
    pool = Pool(Voice())
    pool.keep(3)
    pool.wait(10.0)
    pool.speak("u1")
    (dead,) = pool.sent
    pool.now = 11.0
    pool.speak("u2")
    (alive,) = set(pool.sent) - {dead}
    pool.handle(SocketFrame(alive, "u2:done"))
    pool.wait(10.0 + DEAD_S)
    assert alive not in pool.closed
    assert len(pool.closed) == 2


def test_a_session_that_gives_up_a_silent_kept_socket_makes_its_neighbours_doubtful_too() -> None:
    pool = Pool(Voice())
    pool.keep(3)
    pool.wait(10.0)
    pool.speak("u1")
    pool.now = 11.0
    pool.handle(SynthesisCancelled("u1", suspect=True))
    assert sorted(pool.closed) == [1, 2, 3]


def test_a_slow_fresh_socket_is_not_taken_for_dead() -> None:
    pool = Pool(Voice())
    pool.speak("u1")
    pool.wait(60.0)
    assert pool.retried == []
