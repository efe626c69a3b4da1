"""Whom a client's wish leads to, and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.conversations.stt.planning import SttPlanner, updated
from gateway.conversations.stt.protocol import Asked, Update
from gateway.providers._shared.options import translated
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import Attempt, FallbackModel, Plan


class Catalogue:
    models: Mapping[str, Plan] = {
        "deepgram/nova-3": (Attempt("dg", "nova-3"),),
        "assemblyai/universal-streaming": (Attempt("aai", "universal-streaming-english"),),
        "speechmatics/enhanced": (Attempt("sm", "enhanced", {"max_delay": 2.0}),),
        "local/whisper": (Attempt("local", "whisper"),),
    }

    def for_model(self, model: str | None) -> Catalogue:
        return self

    def outside(self, model: str) -> None:
        return None

    def plan(self, model: str) -> Plan | Failure:
        return self.models.get(model) or Failure(Kind.NOT_FOUND, "no such model", "model")


class Upstream:
    def __init__(self, terms: str | None, speakers: str | None) -> None:
        self.terms, self.speakers = terms, speakers

    def translate(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return translated(extra, self.terms, self.speakers)

    def check(self, options: Mapping[str, Any]) -> Failure | None:
        return Failure(Kind.BAD_REQUEST, "bad", "x") if options.get("bad") else None

    def recognizer(self, attempt: Attempt, rate: int) -> Any:
        raise NotImplementedError


def planner(**config: Any) -> SttPlanner:
    upstreams = {
        "dg": Upstream("keyterm", "diarize"),
        "aai": Upstream("keyterms_prompt", "speaker_labels"),
        "sm": Upstream("additional_vocab", "diarization"),
        "local": Upstream(None, None),
    }
    return SttPlanner(
        Catalogue(), SttConfig(**config), upstreams, ("deepgram/nova-3",), ("local/whisper",)
    )


def places(plan: Plan | Failure) -> list[str]:
    assert not isinstance(plan, Failure)
    return [attempt.provider for attempt in plan]


def test_the_clients_model_then_its_fallbacks_then_the_configured_then_local() -> None:
    asked = Asked("deepgram/nova-3", fallbacks=(FallbackModel("assemblyai/universal-streaming"),))
    plan = planner(fallback=["speechmatics/enhanced"])(asked)

    assert places(plan) == ["dg", "aai", "sm", "local"]


def test_a_place_stands_once_in_a_plan() -> None:
    asked = Asked("deepgram/nova-3", fallbacks=(FallbackModel("deepgram/nova-3"),))

    assert places(planner()(asked)) == ["dg", "local"]


def test_a_language_behind_the_models_name_is_split_off() -> None:
    asked = Asked("deepgram/nova-3:de", fallbacks=(FallbackModel("speechmatics/enhanced:fr"),))
    plan = planner()(asked)

    assert not isinstance(plan, Failure)
    assert [attempt.language for attempt in plan] == ["de", "fr", None]


def test_key_terms_and_speakers_reach_a_fallback_under_its_own_names() -> None:
    asked = Asked(
        "deepgram/nova-3",
        extra={"keyterm": ["Parley"], "diarize": True, "endpointing": 50},
        fallbacks=(FallbackModel("assemblyai/universal-streaming", {"prompt": "x"}),),
    )
    plan = planner()(asked)

    assert not isinstance(plan, Failure)
    assert plan[0].options["endpointing"] == 50
    assert plan[1].options["keyterms_prompt"] == ["Parley"]
    assert plan[1].options["speaker_labels"] is True
    assert plan[1].options["prompt"] == "x"
    assert "endpointing" not in plan[1].options


def test_what_the_operator_set_for_a_deployment_stands() -> None:
    plan = planner()(Asked("speechmatics/enhanced", extra={"max_delay": 0.7}))

    assert not isinstance(plan, Failure)
    assert plan[0].options["max_delay"] == 2.0


def test_auto_goes_by_language() -> None:
    auto = {"de": ["speechmatics/enhanced"], "default": ["assemblyai/universal-streaming"]}

    assert places(planner(auto=auto)(Asked(None, "de-AT"))) == ["sm", "local"]
    assert places(planner(auto=auto)(Asked(None, "ja"))) == ["aai", "local"]
    assert places(planner()(Asked(None))) == ["dg", "local"]


def test_an_unknown_model_is_refused_and_an_unknown_fallback_left_out() -> None:
    assert isinstance(planner()(Asked("acme/ear")), Failure)
    asked = Asked("deepgram/nova-3", fallbacks=(FallbackModel("acme/ear"),))

    assert places(planner()(asked)) == ["dg", "local"]


def test_a_bad_option_of_the_main_model_is_refused() -> None:
    refused = planner()(Asked("deepgram/nova-3", extra={"bad": True}))

    assert isinstance(refused, Failure)
    assert refused.param == "x"


def changed(asked: Asked, **settings: Any) -> Asked:
    update = Update.model_validate({"type": "session.update", "settings": settings})
    return updated(asked, update)


def test_another_vendor_is_told_language_and_key_terms() -> None:
    asked = Asked("deepgram/nova-3", "es", {"keyterm": ["Parley"], "endpointing": 50})
    after = changed(asked, model="assemblyai/universal-streaming")

    assert (after.model, after.language) == ("assemblyai/universal-streaming", "es")
    assert after.extra == {"keyterm": ["Parley"]}


def test_a_language_behind_an_updated_model_counts_as_in_session_create() -> None:
    after = changed(Asked("deepgram/nova-3:en", "en"), model="assemblyai/universal-streaming:es")

    assert after.language == "es"


def test_a_new_language_replaces_the_one_behind_the_model() -> None:
    plan = planner()(changed(Asked("deepgram/nova-3:de"), language="fr"))

    assert not isinstance(plan, Failure)
    assert plan[0].language == "fr"


def by_language(warned: list[str]) -> SttPlanner:
    """Universal-streaming and, of the same provider, enhanced; the former is English only."""
    return replace(
        planner(local_last=False),
        automatic=("assemblyai/universal-streaming", "deepgram/nova-3"),
        last=(),
        others={"deepgram/nova-3": ("speechmatics/enhanced",)},
        languages={("aai", "universal-streaming-english"): frozenset({"en"})},
        warn=warned.append,
    )


def test_auto_asks_first_whom_the_language_is_known_to() -> None:
    warned: list[str] = []
    plan = by_language(warned)

    assert places(plan(Asked(None, "en-US"))) == ["aai", "dg"]
    for language in ("de", "zh", "multi", None):
        assert places(plan(Asked(None, language))) == ["dg", "aai"]
    assert warned == []


def test_auto_takes_another_model_of_a_provider_whose_first_lacks_the_language() -> None:
    some = replace(
        by_language([]),
        languages={("dg", "nova-3"): frozenset({"en"})},
        automatic=("deepgram/nova-3",),
    )

    assert places(some(Asked(None, "en"))) == ["dg"]
    assert places(some(Asked(None, "de"))) == ["sm"]


def test_auto_warns_where_nothing_speaks_the_language() -> None:
    warned: list[str] = []
    one = replace(by_language(warned), automatic=("assemblyai/universal-streaming",))

    assert places(one(Asked(None, "de"))) == ["aai"]
    assert warned == ["de"]


def standby(asked: Asked, key: str = "A", **whom: list[str]) -> list[str]:
    chosen = planner(standby={"model": "assemblyai/universal-streaming", **whom})
    return places(chosen.standby(asked, key))


def test_a_standby_is_for_those_keys_or_models_that_are_named_or_for_everybody() -> None:
    asked = Asked("deepgram/nova-3:en")
    assert standby(asked) == ["aai"]
    assert standby(asked, keys=["A"]) == ["aai"]
    assert standby(asked, keys=["B"]) == []
    assert standby(asked, models=["deepgram/nova-3"]) == ["aai"]
    assert standby(asked, keys=["B"], models=["deepgram/nova-3"]) == ["aai"]
    assert standby(Asked(None), models=["auto"]) == ["aai"]
    assert standby(Asked(None), models=["deepgram/nova-3"]) == []
    assert planner().standby(asked, "A") == ()


def test_a_standby_hears_the_sessions_language_and_of_its_options_what_it_understands() -> None:
    chosen = planner(standby={"model": "assemblyai/universal-streaming"})
    asked = Asked("deepgram/nova-3", language="de", extra={"keyterm": ["x"], "punctuate": True})
    (attempt,) = chosen.standby(asked, "A")
    assert attempt.language == "de"
    assert attempt.options["keyterms_prompt"] == ["x"]
    assert "punctuate" not in attempt.options
