"""Whatever fails whenever: every word is told, and none twice."""

from __future__ import annotations

from random import Random

import pytest

from tests.conversations.stt.simulated import NOVA, RATE, VENDORS, Call
from tests.fakes.tones import VOCABULARY, spoken

WORDS = (
    "kiron", "guvic", "gupel", "baron", "lasor", "gusor", "gumik", "mevic", "batal", "meron",
    "dasor",
)  # fmt: skip


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("seed", range(8))
def test_every_word_is_told_once(name: str, seed: int) -> None:
    chance = Random(seed)
    words = chance.sample(VOCABULARY, chance.randint(6, 12))
    call = Call(VENDORS[name], chance, words)
    call.run()
    assert call.heard == words, call.story()


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("seed", range(8))
def test_every_word_is_told_once_where_settings_change_meanwhile(name: str, seed: int) -> None:
    chance = Random(f"{name}{seed}")
    words = [chance.choice(VOCABULARY) for _ in range(8)]
    says = [
        (
            chance.uniform(0.5, 5.0),
            {"type": "session.update", "settings": {"language": chance.choice(["de", "fr"])}},
        )
        for _ in range(chance.randint(1, 3))
    ]
    call = Call(VENDORS[name], chance, words, says=says)
    call.run()
    assert call.heard == words, call.story()


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("seed", range(4))
def test_every_word_is_told_once_where_the_client_finds_the_end_of_speech(
    name: str, seed: int
) -> None:
    chance = Random(f"{name}{seed}")
    words = [chance.choice(VOCABULARY) for _ in range(8)]
    spoken_s = 0.3 + len(spoken(words[:4])) / 2 / RATE
    finalize = (spoken_s + chance.uniform(0.0, 0.1), {"type": "session.finalize"})
    call = Call(VENDORS[name], chance, words, says=[finalize], faults=("drop:1.90",), slow=0.0)
    call.run()
    assert call.heard == words, call.story()


@pytest.mark.parametrize("last", VOCABULARY)
def test_no_word_is_taken_for_silence_in_a_replay(last: str) -> None:
    """Of a recording that ends with it: silence at an end is left out."""
    words = [*(word for word in WORDS[:10] if word != last), last]
    call = Call(NOVA, Random(0), words, faults=("stall:1.56",), slow=0.0)
    call.run()
    assert call.heard == words, call.story()


@pytest.mark.parametrize("second", ["stall:0.40", "no-read:0.40", "close:0.40:1000"])
def test_the_word_that_was_left_open_is_told_where_the_next_provider_fails_too(
    second: str,
) -> None:
    """All but the last word are told at once when a slow replay begins; then that one is known, and
    the provider that should hear it again says nothing of it."""
    call = Call(NOVA, Random(0), WORDS, faults=("drop:3.98", second), slow=0.0)
    call.run()
    assert call.heard == list(WORDS), call.story()
