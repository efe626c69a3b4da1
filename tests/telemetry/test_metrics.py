"""What is measured, and under which names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from gateway import __version__
from gateway.telemetry.metrics import (
    COSTS_EXPECTED_MAX,
    KEYS_NAMED_MAX,
    MODELS_EXPECTED_MAX,
    BatchMetrics,
    Expected,
    Metrics,
    count,
    count_cost,
)
from gateway.telemetry.outcome import (
    NANO,
    BargeinCounts,
    Ended,
    Outcome,
    StandbyTime,
    SttLatency,
    Try,
)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_every_metric_of_ours_is_named_after_us_and_says_what_it_means() -> None:
    families = [
        family
        for family in Metrics().registry.collect()
        if not family.name.startswith(("process_", "python_"))
    ]
    assert families
    for family in families:
        assert family.name.startswith("parley_"), family.name
        assert family.documentation.endswith("."), family.name


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.requests.labels("chat", "ok").inc()
    assert value(one.registry, "parley_requests_total", route="chat", outcome="ok") == 1
    assert value(other.registry, "parley_requests_total", route="chat", outcome="ok") == 0


WITH_THE_ENGINE = ("parley_engine_", "parley_bargein_version_", "parley_bargein_followed")


def test_every_counter_is_there_from_the_start_with_0() -> None:
    metrics = Metrics()
    expected = {name: [Expected("p", "m", "m")] for name in ("chat", "stt", "tts")}
    metrics.expect(["key"], expected)
    for family in metrics.registry.collect():
        if family.name.startswith(WITH_THE_ENGINE) and family.name != "parley_engine_late":
            continue  # they begin with the engine, before anything is served
        if family.name == "parley_provider_resting":
            continue  # with the breaker
        assert family.samples, family.name
        if family.type == "counter" and family.name.startswith("parley_"):
            assert {sample.value for sample in family.samples} == {0.0}, family.name


def test_what_is_expected_is_bounded() -> None:
    metrics = Metrics()
    models = [Expected("p", f"m{i}", f"m{i}") for i in range(200)]
    metrics.expect([f"k{i}" for i in range(500)], {"chat": models})
    series = [sample for family in metrics.registry.collect() for sample in family.samples]
    costs = [one for one in series if one.name == "parley_cost_total"]
    assert len({one.labels["key"] for one in costs}) <= KEYS_NAMED_MAX + 1
    assert len(costs) <= COSTS_EXPECTED_MAX + KEYS_NAMED_MAX + 1
    first = [one for one in series if one.name == "parley_chat_first_token_seconds_count"]
    assert len(first) == MODELS_EXPECTED_MAX


@pytest.mark.parametrize("outcome_of", ["requests", "errors"])
def test_a_route_without_providers_has_no_failures_of_theirs(outcome_of: str) -> None:
    label = "outcome" if outcome_of == "requests" else "kind"
    labels = {"route": "bargein", label: "upstream_timeout"}
    assert value(Metrics().registry, f"parley_{outcome_of}_total", **labels) is None


def test_a_cost_is_counted_by_key_and_model_as_it_grows() -> None:
    metrics = Metrics()
    metrics.expect(["key"], {})
    outcome = Outcome(label="openai/gpt-4.1", cost=2 * NANO)
    counted = count_cost(metrics, Ended(0.0, "chat", "key", "id", 1.0, outcome), 0)
    later = replace(outcome, cost=3 * NANO)
    assert count_cost(metrics, Ended(0.0, "chat", "key", "id", 1.0, later), counted) == 3 * NANO
    labels = {"key": "key", "model": "openai/gpt-4.1"}
    assert value(metrics.registry, "parley_cost_total", **labels) == 3.0


def test_a_key_beyond_the_bound_is_another_and_none_is_anonymous() -> None:
    metrics = Metrics()
    metrics.expect([f"k{i}" for i in range(KEYS_NAMED_MAX + 1)], {})
    assert metrics.key_label("k0") == "k0"
    assert metrics.key_label(f"k{KEYS_NAMED_MAX}") == "other"
    assert metrics.key_label("") == "anonymous"


def test_what_recognisers_take_is_counted_with_the_session() -> None:
    metrics = Metrics()
    outcome = Outcome(latencies=(SttLatency("final", "deepgram", "nova-3", 0.4),))
    count(metrics, Ended(0.0, "stt", "key", "id", 1.0, outcome))

    labels = {"kind": "final", "provider": "deepgram", "model": "nova-3"}
    assert value(metrics.registry, "parley_stt_latency_seconds_count", **labels) == 1


def test_the_time_of_a_standby_is_counted_and_one_that_was_not_needed_is_a_try_of_its_own() -> None:
    metrics = Metrics()
    outcome = Outcome(
        tries=(Try("deepgram", "nova-3", 0.0), Try("cartesia", "ink-2", 0.1, standby=True)),
        standbys=(StandbyTime("cartesia", "ink-2", 60.0),),
    )
    count(metrics, Ended(0.0, "stt", "key", "id", 1.0, outcome))

    labels = {"provider": "cartesia", "model": "ink-2"}
    assert value(metrics.registry, "parley_stt_standby_seconds_total", **labels) == 60.0
    tries = {"route": "stt", "provider": "cartesia", "outcome": "standby"}
    assert value(metrics.registry, "parley_upstream_attempts_total", **tries) == 1


def test_the_version_is_a_label() -> None:
    assert value(Metrics().registry, "parley_build_info", version=__version__) == 1


def test_no_label_is_a_secret_or_a_call_and_costs_alone_name_keys() -> None:
    metrics = Metrics()
    metrics.expect(["key"], {"chat": [Expected("p", "m", "m")]})
    for family in metrics.registry.collect():
        for sample in family.samples:
            assert not sample.labels.keys() & {"secret", "token", "room", "session", "identity"}
            assert "key" not in sample.labels or family.name == "parley_cost"


def test_a_batch_is_told_by_its_waits_its_run_and_its_size() -> None:
    metrics = Metrics()
    batches = BatchMetrics(metrics, "interruption")
    batches.ran([0.125, 0.25], 0.5)  # the second came after 0.75 s
    batches.waiting(3)
    registry = metrics.registry
    label = {"model": "interruption"}
    assert value(registry, "parley_engine_queue_seconds_count", **label) == 2
    assert value(registry, "parley_engine_queue_seconds_sum", **label) == pytest.approx(0.375)
    assert value(registry, "parley_engine_inference_seconds_sum", **label) == 0.5
    assert value(registry, "parley_engine_batch_size_sum", **label) == 2
    assert value(registry, "parley_engine_waiting", **label) == 3
    assert value(registry, "parley_engine_late_total", **label) == 1


def test_overlaps_are_interruptions_or_held() -> None:
    metrics = Metrics()
    assert value(metrics.registry, "parley_bargein_overlaps_total", outcome="held") == 0
    outcome = Outcome(counts=BargeinCounts(9, 2, 0, overlaps=3, interruptions=1))
    count(metrics, Ended(0.0, "bargein", "key", "id", 1.0, outcome))
    assert value(metrics.registry, "parley_bargein_overlaps_total", outcome="held") == 2
    assert value(metrics.registry, "parley_bargein_overlaps_total", outcome="interruption") == 1


def test_the_first_token_is_told_by_model() -> None:
    metrics = Metrics()
    outcome = Outcome(provider="openai", label="openai/gpt-4.1", first_s=0.3)
    count(metrics, Ended(0.0, "chat", "key", "id", 1.0, outcome))
    labels = {"provider": "openai", "model": "openai/gpt-4.1"}
    assert value(metrics.registry, "parley_chat_first_token_seconds_count", **labels) == 1
