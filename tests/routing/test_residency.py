"""No plan leads outside of the regions that are demanded, whatever is asked and configured."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.conversations.stt.planning import SttPlanner
from gateway.conversations.stt.protocol import Asked
from gateway.conversations.tts.planning import TtsPlanner
from gateway.conversations.tts.protocol import Style
from gateway.routing.catalogue import Catalogue
from gateway.routing.residency import HEADER
from gateway.routing.stand_in import StandIns
from gateway.settings.models import Deployment
from gateway.settings.residency import ResidencyConfig
from gateway.settings.stt import SttConfig
from gateway.upstreams.adapters import Adapters
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.plan import FallbackModel, Plan
from gateway.upstreams.provider import Account, Modality, find

REGIONS = ("eu", "us", "ch")
TYPES = ("openai", "deepgram", "cartesia", "groq", "azure-openai", "local", "openai-compatible")
NAMES = (
    "openai/gpt-4.1-mini", "openai/gpt-4.1", "groq/whisper-large-v3", "deepgram/nova-3",
    "cartesia/sonic-3", "openai/gpt-4o-mini-tts", "cartesia/ink-whisper", "mine", "other",
    "wild/x", "p0/anything", "p1/anything", "p2/anything", "local/whisper", "nobody/has-it",
)  # fmt: skip
"""Names that callers use; each may also have a language or a voice behind it."""

regions = st.sampled_from(REGIONS)
names = st.sampled_from(NAMES)
demands = st.frozensets(regions, min_size=1, max_size=2)
providers = st.lists(st.tuples(st.sampled_from(TYPES), st.none() | regions), min_size=1, max_size=5)
deployments = st.builds(
    lambda provider, model: Deployment(provider=provider, model=model),
    st.sampled_from(["p0", "p1", "p2", "p3", None]),
    st.sampled_from(["m", "openai/gpt-4.1", "deepgram/nova-3", "cartesia/sonic-3"]),
)
models = st.dictionaries(
    st.sampled_from(["mine", "wild/*", "openai/gpt-4.1-mini"]),
    st.lists(deployments, min_size=1, max_size=4),
)
residencies = st.builds(
    lambda keys, models: ResidencyConfig(keys=keys, models=models),
    st.dictionaries(st.sampled_from(["key"]), demands),
    st.dictionaries(st.sampled_from([*NAMES, "openai/*", "wild/*"]), demands, max_size=3),
)


def accounts(given: list[tuple[str, str | None]]) -> dict[str, Account]:
    made = {}
    for number, (kind, region) in enumerate(given):
        vendor = find(kind)
        made[f"p{number}"] = vendor.account(
            f"p{number}",
            vendor.settings(type=kind, api_key="k", region=region, base_url="http://127.0.0.1:9"),
        )
    return made


def demanded(
    residency: ResidencyConfig, header: str | None, asked: tuple[str, ...]
) -> list[frozenset[str]]:
    """What holds for a request that names `asked`, by this test's own reckoning."""
    found = list(residency.keys.values())
    if header is not None:
        found.append(frozenset(header.split(",")))
    for model, regions in residency.models.items():
        for name in asked:
            bare = name.split(":")[0]
            if model in (name, bare) or (model[-1] == "*" and name.startswith(model[:-1])):
                found.append(regions)
    return found


def all_inside(
    plan: Plan | Failure, made: Mapping[str, Account], demands: list[frozenset[str]]
) -> None:
    if isinstance(plan, Failure):
        assert plan.kind is not Kind.OUTSIDE_REGION or all(
            region in plan.message for regions in demands for region in regions
        )
        return
    assert plan, "an empty plan is no answer"
    for attempt in plan:
        region = made[attempt.provider].settings.region
        for regions in demands:
            assert region in regions, attempt


@settings(max_examples=400, deadline=None)
@given(
    given=providers,
    configured=models,
    residency=residencies,
    header=st.none() | regions | st.just("eu,ch"),
    model=names,
    fallbacks=st.lists(names, max_size=3),
    pinned=st.none() | st.sampled_from(["p0", "p1", "azure", "openai"]),
    suffix=st.sampled_from(["", ":de"]),
    seed=st.integers(0, 5),
)
def test_no_attempt_is_outside(
    given: list[tuple[str, str | None]],
    configured: dict[str, list[Deployment]],
    residency: ResidencyConfig,
    header: str | None,
    model: str,
    fallbacks: list[str],
    pinned: str | None,
    suffix: str,
    seed: int,
) -> None:
    made = accounts(given)
    adapters = Adapters(made)

    def catalogue(modality: Modality) -> Catalogue:
        whole = Catalogue(
            configured,
            made,
            modality,
            random.Random(seed),
            StandIns(made.values(), modality),
            residency=residency,
            successors=bool(seed % 2),
        )
        own = whole.for_request("key", header)
        assert isinstance(own, Catalogue)
        return own

    chat = catalogue("chat").plan(model, pinned, [(name, {}) for name in fallbacks])
    all_inside(chat, made, demanded(residency, header, (model,)))
    for name, listed in catalogue("chat").names().items():
        all_inside(listed, made, demanded(residency, header, (name,)))

    stt = SttPlanner(
        catalogue("stt"),
        SttConfig(fallback=fallbacks[:1], auto={"default": fallbacks}),
        adapters.stt,
        automatic=("deepgram/nova-3",),
        last=("local/whisper", "p0/whisper"),
    )
    asked = Asked(model + suffix, "de", {}, tuple(FallbackModel(name) for name in fallbacks))
    all_inside(stt(asked), made, demanded(residency, header, (model + suffix,)))
    auto = Asked(None, "de", {}, ())
    all_inside(stt(auto), made, demanded(residency, header, ()))

    tts = TtsPlanner(
        catalogue("tts"),
        {name: account.type for name, account in made.items()},
        {name: voice.traits for name, voice in adapters.tts.items()},
        TYPES,
    )
    styles = tuple(Style(name, None, None, {}) for name in fallbacks)
    plan = tts.plan(Style(model + suffix, "v", "de", {}), styles)
    all_inside(plan, made, demanded(residency, header, (model + suffix,)))


def request(header: str | None, **given: Any) -> Catalogue | Failure:
    made = accounts([("openai", "eu"), ("openai", None)])
    residency = ResidencyConfig(**given)
    return Catalogue({}, made, "chat", residency=residency).for_request("key", header)


@pytest.mark.parametrize("header", ["", "e u", "eu,,us", "-eu", "e" * 33, ",".join(["eu"] * 17)])
def test_a_region_that_is_no_name_is_refused(header: str) -> None:
    failure = request(header)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.param) == (Kind.BAD_REQUEST, HEADER)


def test_the_refusal_names_the_regions_and_no_provider() -> None:
    catalogue = request("US", keys={"key": ["ch", "eu"]})
    assert isinstance(catalogue, Catalogue)
    failure = catalogue.plan("openai/gpt-4.1")
    assert isinstance(failure, Failure)
    assert failure.status == 403
    assert failure.message == ("no provider inside ch or eu and inside us serves 'openai/gpt-4.1'")


def test_what_nobody_serves_anywhere_is_not_found() -> None:
    catalogue = request("eu")
    assert isinstance(catalogue, Catalogue)
    failure = catalogue.plan("nobody/has-it")
    assert isinstance(failure, Failure)
    assert failure.kind is Kind.NOT_FOUND


def test_a_provider_without_a_region_serves_who_demands_none() -> None:
    catalogue = request(None)
    assert isinstance(catalogue, Catalogue)
    plan = catalogue.plan("openai/gpt-4.1")
    assert [attempt.provider for attempt in plan] == ["p0", "p1"]  # type: ignore[union-attr]


def test_the_demand_of_a_fallback_holds_for_it_alone() -> None:
    made = accounts([("openai", "eu"), ("openai", None)])
    demands = ResidencyConfig(models={"openai/gpt-4.1": "eu"})
    plan = Catalogue({}, made, "chat", residency=demands).plan(
        "openai/gpt-4.1-mini", None, [("openai/gpt-4.1", {})]
    )
    assert [(a.provider, a.model) for a in plan] == [  # type: ignore[union-attr]
        ("p0", "gpt-4.1-mini"),
        ("p1", "gpt-4.1-mini"),
        ("p0", "gpt-4.1"),
    ]
