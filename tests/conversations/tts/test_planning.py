"""Who speaks a text, in which voice, and who comes after."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.conversations.tts.planning import TtsPlanner
from gateway.conversations.tts.protocol import Style
from gateway.upstreams.errors import Failure
from gateway.upstreams.plan import Attempt

PLANS = {
    "acme/one": (Attempt("acme", "one"),),
    "both": (
        Attempt("acme", "one"),
        Attempt("acme-eu", "one"),
        Attempt("zeus", "two", {"voice": "eve", "speed": 1.2}),
        Attempt("hera", "three"),
    ),
    "zeus/two": (Attempt("zeus", "two"),),
    "absent/voice": (Attempt("ours", "own", stand_in="ours/own"),),
    "absent/alias": (Attempt("ours", "own"),),
    "ours/own": (Attempt("ours", "own"),),
    "hera/nine": (Attempt("hera", "nine", {"voice": 9}),),
}


class Catalogue:
    def for_model(self, model: str | None) -> Catalogue:
        return self

    def outside(self, model: str) -> None:
        return None

    def plan(self, model: str, pinned_provider: str | None = None) -> Any:
        from gateway.upstreams.errors import Kind

        prefix, slash, rest = model.partition("/")
        if slash and prefix in TYPES and model not in PLANS:
            return (Attempt(prefix, rest),)
        return PLANS.get(model) or Failure(Kind.NOT_FOUND, f"no {model}")

    def model_label(self, name: str) -> str:
        return name if name in PLANS else "other"


TYPES = {"acme": "acme", "acme-eu": "acme", "zeus": "zeus", "hera": "hera", "ours": "ours"}
VOICES = {"ours": {"eve"}.__contains__}
PLANNER = TtsPlanner(Catalogue(), TYPES, {}, ["absent"], VOICES)  # type: ignore[arg-type]


def test_a_model_is_asked_for_with_the_clients_voice_language_and_options() -> None:
    plan = PLANNER.plan(Style("acme/one", "ann", "en", {"speed": 1}), ())
    assert plan == (Attempt("acme", "one", {"speed": 1}, "ann", "en"),)


def test_a_voice_is_kept_within_a_vendor_and_is_the_deployments_own_elsewhere() -> None:
    plan = PLANNER.plan(Style("both", "ann", None, {"speed": 1}), ())
    assert isinstance(plan, tuple)
    assert [(a.provider, a.voice) for a in plan] == [
        ("acme", "ann"),
        ("acme-eu", "ann"),
        ("zeus", "eve"),
        ("hera", None),
    ]
    assert plan[2].options == {"speed": 1.2}


def test_the_clients_fallbacks_follow_with_their_own_voices_and_its_language() -> None:
    fallback = (Style("zeus/two", "eva", None, {"pitch": 2}),)
    plan = PLANNER.plan(Style("acme/one", "ann", "de"), fallback)
    assert isinstance(plan, tuple)
    assert plan[1:] == (Attempt("zeus", "two", {"pitch": 2}, "eva", "de"),)


def test_a_fallback_that_is_not_served_is_left_out() -> None:
    plan = PLANNER.plan(Style("acme/one"), (Style("nobody/x"),))
    assert isinstance(plan, tuple)
    assert [a.provider for a in plan] == ["acme"]


def test_an_unknown_model_is_a_failure() -> None:
    assert isinstance(PLANNER.plan(Style("nobody/x"), ()), Failure)


def test_a_voice_may_stand_behind_the_model() -> None:
    plan = PLANNER.plan(Style("acme/one:ann"), ())
    assert isinstance(plan, tuple)
    assert plan[0].voice == "ann"


def test_a_voice_behind_the_model_is_newer_than_one_that_is_said_beside_it() -> None:
    plan = PLANNER.plan(Style("acme/one:ann", "bob"), ())
    assert isinstance(plan, tuple)
    assert (plan[0].model, plan[0].voice) == ("one", "ann")


def test_a_model_that_is_known_by_its_providers_name_alone_loses_its_voice_too() -> None:
    plan = PLANNER.plan(Style("zeus/aura-2:thalia"), (Style("hera/x:eva"),))
    assert isinstance(plan, tuple)
    assert [(a.provider, a.model, a.voice) for a in plan] == [
        ("zeus", "aura-2", "thalia"),
        ("hera", "x", "eva"),
    ]


def test_a_name_that_is_configured_with_a_colon_is_a_name() -> None:
    PLANS["acme/tagged:3b"] = (Attempt("acme", "tagged:3b"),)
    plan = PLANNER.plan(Style("acme/tagged:3b", "ann"), ())
    assert plan == (Attempt("acme", "tagged:3b", {}, "ann"),)


def test_a_voice_of_the_vendor_in_the_models_name_means_nothing_to_another() -> None:
    PLANS["hermes/one"] = (Attempt("acme", "one"), Attempt("acme-eu", "one", {"voice": "ann"}))
    planner = TtsPlanner(Catalogue(), TYPES, {}, ["hermes"])  # type: ignore[arg-type]
    plan = planner.plan(Style("hermes/one", "9626c31c", None, {"emotion": "sad"}), ())
    assert isinstance(plan, tuple)
    assert [(a.voice, a.options) for a in plan] == [(None, {}), ("ann", {})]


def test_what_stands_in_gets_no_options_of_the_absent_vendor_and_no_voice_that_it_lacks() -> None:
    plan = PLANNER.plan(Style("absent/voice", "9626c31c", "en", {"speed": 1}), ())
    assert plan == (Attempt("ours", "own", {}, None, "en", stand_in="ours/own"),)
    plan = PLANNER.plan(Style("absent/voice", "eve"), ())
    assert isinstance(plan, tuple)
    assert plan[0].voice == "eve"


def test_behind_an_alias_a_foreign_voice_becomes_the_default_and_a_misspelt_own_one_does_not() -> (
    None
):
    foreign, own = (PLANNER.plan(Style(m, "nobody"), ()) for m in ("absent/alias", "ours/own"))
    assert isinstance(foreign, tuple)
    assert isinstance(own, tuple)
    assert (foreign[0].voice, own[0].voice) == (None, "nobody")


@pytest.mark.parametrize("name", ["voice", "language"])
@pytest.mark.parametrize("value", [7, 1.5, True, {"id": "ann"}, ["ann"], "", "a\nb", "x" * 257])
def test_what_is_no_name_among_the_options_is_neither_voice_nor_language(
    name: str, value: object
) -> None:
    plan = PLANNER.plan(Style("acme/one", "ann", "en", {name: value}), ())
    assert plan == (Attempt("acme", "one", {}, "ann", "en"),)


def test_a_voice_that_yaml_took_for_a_number_is_a_voice() -> None:
    plan = PLANNER.plan(Style("hera/nine"), ())
    assert isinstance(plan, tuple)
    assert plan[0].voice == "9"


def test_a_fallback_that_is_served_comes_before_what_stands_in() -> None:
    plan = PLANNER.plan(Style("absent/voice"), (Style("zeus/two"),))
    assert isinstance(plan, tuple)
    assert [a.provider for a in plan] == ["zeus", "ours"]
