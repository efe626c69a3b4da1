"""A client's options at every vendor: its own are checked, another's are translated or left out."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest

from gateway.conversations.tts.planning import TtsPlanner
from gateway.conversations.tts.protocol import Style
from gateway.providers._shared.voice_options import SPEED_WORDS, VOICES
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account, find, type_names
from gateway.upstreams.tts import (
    Capabilities,
    ProcessVoice,
    RequestVoice,
    SocketVoice,
    SpeechRequest,
    TtsUpstream,
)

VALUES: list[Any] = [
    "slow",
    "fast",
    "x",
    1.2,
    150,
    True,
    ["x"],
    [120, 160],
    "ON",
    "auto",
    "original",
]
PAIRS = [(one, other) for one, other in product(VOICES, VOICES) if one != other]


def upstream(vendor: str) -> TtsUpstream:
    offer, settings = find(vendor).tts, find(vendor).settings()
    assert offer is not None
    found: TtsUpstream = offer.adapter(
        Account(vendor, vendor, "https://127.0.0.1:1", "key", settings=settings)
    )
    return found


UPSTREAMS = {vendor: upstream(vendor) for vendor in type_names() if find(vendor).tts is not None}


def own(vendor: str) -> dict[str, Any]:
    """A client's options with every name that the vendor has, each of a type that it takes."""
    given = {}
    for name, option in VOICES[vendor].table.items():
        given[name] = next(value for value in VALUES if option.read(value) is not None)
    return given


def asked_of(voice: TtsUpstream, options: Any) -> str:
    """All that is sent to a provider."""
    request = SpeechRequest("m", None, "en", 24000, options)
    if isinstance(voice, RequestVoice):
        return repr(voice.dial(request, "One.").body)
    if isinstance(voice, ProcessVoice):
        return ""
    assert isinstance(voice, SocketVoice)
    dialogue = voice.dialogue()
    frames = [*dialogue.begin("c", request), *dialogue.say("c", "One.")]
    return voice.dial(request).url + repr(frames)


def test_every_vendor_of_voices_is_in_the_table() -> None:
    assert set(UPSTREAMS) == set(VOICES)
    assert all(voice.traits.options is VOICES[vendor] for vendor, voice in UPSTREAMS.items())


@pytest.mark.parametrize("vendor", VOICES)
def test_a_vendors_own_options_are_all_taken(vendor: str) -> None:
    read = VOICES[vendor].read(own(vendor), vendor)
    assert set(read.options) == set(own(vendor))
    assert read.left_out == ()


@pytest.mark.parametrize("vendor", VOICES)
def test_a_value_of_the_wrong_type_is_left_out_and_named(vendor: str) -> None:
    wrong: dict[str, Any] = {name: {"an": "object"} for name in VOICES[vendor].table}
    wrong |= {name: math.nan for name in ("speed", "volume") if name in wrong}
    read = VOICES[vendor].read(wrong, vendor)
    assert read.options == {}
    assert set(read.left_out) == set(wrong)


@pytest.mark.parametrize("value", [{"an": "object"}, [], ["slow"]])
@pytest.mark.parametrize(("asked", "vendor"), [*((one, one) for one in VOICES), *PAIRS])
def test_a_speed_that_is_an_object_or_a_list_means_nothing(
    asked: str, vendor: str, value: object
) -> None:
    assert VOICES[vendor].read({"speed": value}, asked).options == {}


@pytest.mark.parametrize("vendor", VOICES)
def test_an_option_that_nobody_knows_is_passed_on_only_where_servers_have_their_own(
    vendor: str,
) -> None:
    read = VOICES[vendor].read({"&model=": "x y"}, vendor)
    assert bool(read.options) is (vendor == "openai-compatible")
    assert bool(read.options) is not bool(read.left_out)


@pytest.mark.parametrize(("asked", "vendor"), PAIRS)
def test_another_vendors_options_become_this_ones_or_are_left_out(asked: str, vendor: str) -> None:
    given = own(asked)
    read = VOICES[vendor].read(given, asked)
    again = VOICES[vendor].read(read.options, vendor)
    assert again.options == read.options
    assert again.left_out == ()
    meanings = {scale.name for scale in (VOICES[asked].speed, VOICES[asked].volume) if scale}
    assert set(given) - set(read.left_out) <= meanings
    sent = asked_of(UPSTREAMS[vendor], read.options)
    for name in read.left_out:
        assert f"{name}=" not in sent
    for word in SPEED_WORDS:
        assert f'"{word}"' not in sent
        assert f"={word}" not in sent


@pytest.mark.parametrize(
    ("vendor", "options"),
    [
        ("cartesia", {"speed": 1.2, "volume": 2.0}),
        ("deepgram", {}),
        ("elevenlabs", {"speed": 1.2}),
        ("fishaudio", {"speed": 1.2, "volume": 6.021}),
        ("inworld", {"speaking_rate": 1.2}),
        ("rime", {"speed_alpha": 0.833}),
        ("xai", {"speed": 1.2}),
        ("openai", {"speed": 1.2}),
        ("openai-compatible", {"speed": 1.2}),
        ("local", {}),
    ],
)
def test_faster_and_louder_is_faster_and_louder_everywhere(
    vendor: str, options: dict[str, Any]
) -> None:
    """Cartesia's words at every vendor; its own numbers come back from Fish Audio's decibels."""
    if vendor == "cartesia":
        read = VOICES[vendor].read({"speed": 1.2, "volume": 6.0206}, "fishaudio")
    else:
        read = VOICES[vendor].read({"speed": "fast", "volume": 2.0, "emotion": "sad"}, "cartesia")
        assert "emotion" in read.left_out
    assert read.options == options


def test_what_another_vendor_would_refuse_is_brought_within_its_bounds() -> None:
    assert VOICES["elevenlabs"].read({"speed": 3.0}, "openai").options == {"speed": 1.2}
    assert VOICES["xai"].read({"speed_alpha": 4.0}, "rime").options == {"speed": 0.7}
    assert VOICES["xai"].read({"speed_alpha": 0}, "rime").options == {}
    assert VOICES["fishaudio"].read({"volume": 0}, "cartesia").options == {}


def test_a_word_for_the_speed_is_a_number_where_the_vendor_has_numbers_alone() -> None:
    assert VOICES["elevenlabs"].read({"speed": "slow"}, "elevenlabs").options == {"speed": 0.8}
    assert VOICES["cartesia"].read({"speed": "slow"}, "cartesia").options == {"speed": "slow"}


class Catalogue:
    """Every vendor behind one name of the operator's."""

    def for_model(self, model: str | None) -> Catalogue:
        return self

    def outside(self, model: str) -> None:
        return None

    def plan(self, model: str) -> Any:
        return tuple(Attempt(vendor, "m") for vendor in ("cartesia", *VOICES))

    def model_label(self, name: str) -> str:
        return name


def test_a_list_of_all_vendors_is_asked_by_each_ones_own_words() -> None:
    traits: dict[str, Capabilities] = {name: one.traits for name, one in UPSTREAMS.items()}
    planner = TtsPlanner(
        Catalogue(),  # type: ignore[arg-type]
        {name: name for name in VOICES},
        traits,
        type_names(),
    )
    extra = {"emotion": "excited", "speed": "slow", "volume": 1.2, "add_timestamps": True}
    plan = planner.plan(Style("my-voice", "ann", "en", extra), ())
    assert isinstance(plan, tuple)
    for attempt in plan:
        sent = asked_of(UPSTREAMS[attempt.provider], attempt.options)
        if attempt.provider == "cartesia":
            assert attempt.options == extra
            assert attempt.left_out == ()
        else:
            assert "excited" not in sent
            assert "slow" not in sent
            assert "add_timestamps" not in sent
            assert "emotion" in attempt.left_out
            assert attempt.voice is None
