"""What is measured, and under which names."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from gateway import __version__
from gateway.telemetry.metrics import BatchMetrics, Metrics, count
from gateway.telemetry.outcome import Ended, Outcome, StandbyTime, SttLatency, Try


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
    assert value(other.registry, "parley_requests_total", route="chat", outcome="ok") is None


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


def test_no_label_is_a_key_or_another_secret() -> None:
    for family in Metrics().registry.collect():
        for sample in family.samples:
            assert not sample.labels.keys() & {"key", "secret", "token", "room", "session"}


def test_a_batch_is_told_by_its_waits_its_run_and_its_size() -> None:
    metrics = Metrics()
    batches = BatchMetrics(metrics, "interruption")
    batches.ran([0.125, 0.25], 0.5)
    batches.waiting(3)
    registry = metrics.registry
    label = {"model": "interruption"}
    assert value(registry, "parley_engine_queue_seconds_count", **label) == 2
    assert value(registry, "parley_engine_queue_seconds_sum", **label) == pytest.approx(0.375)
    assert value(registry, "parley_engine_inference_seconds_sum", **label) == 0.5
    assert value(registry, "parley_engine_batch_size_sum", **label) == 2
    assert value(registry, "parley_engine_waiting", **label) == 3
