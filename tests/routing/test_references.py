"""Names that lead nowhere are mistakes; names that wait for a provider are warnings."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.routing.references import Named, check
from gateway.settings.bargein import LearnConfig
from gateway.settings.cascades import CascadeConfig
from gateway.settings.models import Deployment
from gateway.settings.quota import QuotaConfig
from gateway.settings.residency import ResidencyConfig
from gateway.settings.stt import SttConfig
from gateway.upstreams.provider import Account, find


def named(
    providers: dict[str, dict[str, Any]] | None = None,
    models: dict[str, list[dict[str, Any]]] | None = None,
    **more: Any,
) -> Named:
    settings = {
        name: find(given.get("type", name)).settings.model_validate({"type": name, **given})
        for name, given in (providers or {}).items()
    }
    return Named(
        models={
            name: [Deployment.model_validate(one) for one in given]
            for name, given in (models or {}).items()
        },
        providers=settings,
        accounts={
            name: Account(name, one.type, one.base_url or "http://x", settings=one)
            for name, one in settings.items()
            if one.enabled
        },
        **more,
    )


RACK = {"rack": {"type": "openai-compatible", "models": ["llama", "whisper-1", "kokoro"]}}
ALL: dict[str, dict[str, str]] = {"openai": {}, "deepgram": {}, "cartesia": {}}


def told(given: Named, *, fatal: bool = True) -> list[str]:
    return [mistake.told() for mistake in check(given) if mistake.fatal is fatal]


@pytest.mark.parametrize(
    "given",
    [
        named(),
        named(RACK, {"fast": [{"model": "rack/llama"}], "faster": [{"model": "fast"}]}),
        named(RACK, {"a/*": [{"provider": "rack", "model": "*"}]}),
        named(RACK, {"a/*": [{"provider": "rack", "model": "org/*-instruct"}]}),
        named(RACK, {"*": [{"provider": "rack", "model": "*"}]}, prices=["anything"]),
        # a name that no list has still goes to its provider
        named(RACK, {"fast": [{"model": "rack/other"}]}, prices=["rack/third", "rack:third"]),
        named(ALL, stt=SttConfig(fallback=["deepgram/nova-3:en", "cartesia/ink-2"])),
        named(ALL, stt=SttConfig(auto={"default": ["deepgram/nova-3"], "no": ["cartesia/ink-2"]})),
        named(ALL, default_voice="cartesia/sonic-3:voice-1"),
        named(ALL, prices=["deepgram:*", "cartesia/*", "*", "openai/gpt-4.1-mini", "deepgram:x"]),
        named(ALL, quota=QuotaConfig.model_validate({"keys": {"*": {"credits": 1}}}), keys=["A"]),
        named(
            ALL,
            quota=QuotaConfig.model_validate({"models": {"openai/*": {}, "openai/gpt-5": {}}}),
        ),
        named(RACK, {"my-ears": [{"provider": "rack", "model": "asr-7"}]},
              stt=SttConfig(fallback=["my-ears"])),
        # keys are not looked at where there may be none
        named(quota=QuotaConfig.model_validate({"keys": {"APIx": {}}})),
    ],
)  # fmt: skip
def test_what_leads_somewhere_is_no_mistake(given: Named) -> None:
    assert check(given) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            named({"rack": {"type": "openai-compatible", "enabled": False}},
                  {"m": [{"provider": "rack", "model": "x"}]}),
            "models.m.0.provider: the provider 'rack' is switched off",
        ),
        (
            named(stt=SttConfig(fallback=["deepgram/nova-3"])),
            "stt.fallback.0: nothing serves 'deepgram/nova-3': the provider 'deepgram' is not "
            "configured; set DEEPGRAM_API_KEY",
        ),
        (
            named({"deepgram": {"enabled": False}}, prices=["deepgram/nova-3"]),
            "prices.deepgram/nova-3: nothing serves 'deepgram/nova-3': the provider 'deepgram' is "
            "switched off",
        ),
        (
            named(prices=["deepgram:*"]),
            "prices.deepgram:*: nothing serves 'deepgram:*': the provider 'deepgram' is not "
            "configured; set DEEPGRAM_API_KEY",
        ),
    ],
)  # fmt: skip
def test_what_waits_for_a_provider_is_a_warning(given: Named, expected: str) -> None:
    assert told(given) == []
    assert told(given, fatal=False) == [expected]


def test_a_name_written_without_its_vendor_is_understood() -> None:
    (line,) = told(named(ALL, {"fast": [{"model": "gpt-4.1-mni"}]}))
    assert "did you mean 'openai/gpt-4.1-mini'?" in line


def test_a_model_of_another_route_is_no_fallback() -> None:
    (line,) = told(named(ALL, stt=SttConfig(fallback=["cartesia/sonic-3"])))
    assert line == "stt.fallback.0: the model 'cartesia/sonic-3' is for /tts, not for /stt"


def test_an_alias_of_a_name_that_only_a_pattern_has_leads_nowhere() -> None:
    models = {
        "a/*": [{"provider": "rack", "model": "*"}],
        "fast": [{"model": "a/llama"}],
    }
    (line,) = told(named(RACK, models))
    assert line.startswith("models.fast.0: nothing serves 'a/llama'")


def test_a_standbys_names_have_to_lead_somewhere() -> None:
    standby = {"model": "cartesia/sonic-3", "keys": ["B"], "models": ["auto", "nobodys/ear"]}
    stt = SttConfig.model_validate({"standby": standby})
    lines = told(named(ALL, stt=stt, keys=["A"]))
    assert [line.partition(":")[0] for line in lines] == [
        "stt.standby.model",
        "stt.standby.keys.0",
        "stt.standby.models.1",
    ]


def test_what_demands_a_region_that_nobody_is_in_is_a_mistake() -> None:
    here = {"openai": {"region": "eu"}, "deepgram": {}, "cartesia": {}}
    demands = ResidencyConfig.model_validate(
        {
            "keys": {"A": "eu", "B": ["eu", "ch"], "C": "ue"},
            "models": {"openai/*": "eu", "nothing": "eu"},
        }
    )
    given = named(here, residency=demands, keys=["A", "B"])
    assert told(given) == [
        "residency.keys.C: no such API key is configured",
        "residency.keys.C: no provider says `region: ue`",
        "residency.models.nothing: nothing serves 'nothing'",
    ]
    assert told(given, fatal=False) == ["residency.keys.B: no provider says `region: ch`"]


def test_eagerness_of_a_key_that_is_not_configured_is_a_mistake() -> None:
    given = named(keys=["APIone"], eager_keys=["APIone", "APItwo"])

    assert told(given) == [
        "bargein.eagerness_by_key.APItwo: no such API key is configured; did you mean 'APIone'?"
    ]


def test_keys_that_are_learnt_from_exist_and_without_a_secret_it_is_told_that_nothing_is_kept() -> (
    None
):
    given = named(keys=["APIone"], learning=LearnConfig(keys=["APIone", "APItwo", "*"]))

    assert told(given) == [
        "bargein.learn.keys.1: no such API key is configured; did you mean 'APIone'?"
    ]
    assert told(given, fatal=False) == [
        "bargein.learn.secret: missing: nothing is kept to learn from"
    ]
    assert told(named(learning=LearnConfig()), fatal=False) == []


CASCADE = CascadeConfig(stt="auto", chat="openai/gpt-4.1-mini", tts="cartesia/sonic-3:voice-1")


def test_the_parts_of_a_cascade_have_to_be_served() -> None:
    assert told(named(ALL, cascades={"support": CASCADE})) == []
    wrong = CascadeConfig(stt="cartesia/nothing:x:y", chat="deepgram/nova-3", tts="openai/gpt-5")
    found = told(named({"openai": {}}, cascades={"support": wrong}), fatal=False)
    found += told(named(ALL, cascades={"support": wrong}))
    assert any("cascades.support.chat" in one and "for /stt" in one for one in found)
    assert any("cascades.support.tts" in one for one in found)


def test_a_cascade_of_a_vendor_that_is_not_there_is_a_warning() -> None:
    given = named({"openai": {}}, cascades={"support": CASCADE})
    assert told(given) == []
    (warning,) = told(given, fatal=False)
    assert "cascades.support.tts" in warning
    assert "CARTESIA_API_KEY" in warning


def test_a_cascade_may_be_named_where_models_are() -> None:
    quota = QuotaConfig.model_validate({"models": {"cascade/support": {}, "cascade/*": {}}})
    assert told(named(ALL, cascades={"support": CASCADE}, quota=quota)) == []
    assert told(named(ALL, quota=quota))


def test_a_region_of_a_cascade_is_that_of_its_parts() -> None:
    residency = ResidencyConfig.model_validate({"models": {"cascade/support": "eu"}})
    providers = {name: {"region": "eu"} for name in ALL}
    (mistake,) = told(named(providers, cascades={"support": CASCADE}, residency=residency))
    assert "where its parts are" in mistake
