"""What several processes count is told as one."""

import pytest
from prometheus_client import generate_latest

from gateway.telemetry.expositions import Exposition, add_up, lasting, parse, write
from gateway.telemetry.metrics import Metrics


def told(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def value(exposition: Exposition, name: str, series: str, **labels: str) -> float:
    return exposition[name].samples[series, tuple(sorted(labels.items()))]


def a_process(requests: int) -> Metrics:
    metrics = Metrics()
    metrics.requests.labels("chat", "ok").inc(requests)
    metrics.open_sessions.labels("tts").set(requests)
    metrics.engine_run.labels("m").observe(0.003)
    return metrics


def test_counters_histograms_and_gauges_are_summed() -> None:
    other = a_process(4)
    other.requests.labels("stt", "ok").inc()
    total = add_up([parse(told(a_process(3))), parse(told(other))])
    requests = ("parley_requests", "parley_requests_total")
    assert value(total, *requests, route="chat", outcome="ok") == 7
    assert value(total, *requests, route="stt", outcome="ok") == 1
    assert value(total, "parley_open_sessions", "parley_open_sessions", route="tts") == 7
    run = "parley_engine_inference_seconds"
    assert value(total, run, f"{run}_count", model="m") == 2
    assert value(total, run, f"{run}_bucket", model="m", le="0.005") == 2
    assert value(total, run, f"{run}_bucket", model="m", le="0.002") == 0
    assert value(total, run, f"{run}_sum", model="m") == pytest.approx(0.006)


def test_what_is_one_or_zero_stays_so_and_the_start_is_the_earliest() -> None:
    one, other = a_process(1), a_process(1)
    for metrics, rests in ((one, 1), (other, 0)):
        metrics.resting.labels("openai").set(rests)
        metrics.draining.set(1)
    start = "process_start_time_seconds"
    early = parse(f"# HELP {start} x\n# TYPE {start} gauge\n{start} 5\n")
    total = add_up([parse(told(one)), parse(told(other)), early])
    assert (
        value(total, "parley_provider_resting", "parley_provider_resting", provider="openai") == 1
    )
    assert value(total, "parley_draining", "parley_draining") == 1
    assert set(total["parley_build_info"].samples.values()) == {1.0}
    assert set(total["python_info"].samples.values()) == {1.0}
    assert value(total, start, start) == 5


def test_of_a_process_that_has_ended_its_counts_stay_and_its_gauges_go() -> None:
    kept = lasting(parse(told(a_process(3))))
    assert value(kept, "parley_requests", "parley_requests_total", route="chat", outcome="ok") == 3
    assert "parley_engine_inference_seconds" in kept
    assert "parley_open_sessions" not in kept
    assert "process_resident_memory_bytes" not in kept


def test_one_process_is_told_as_it_tells_itself() -> None:
    metrics = a_process(3)
    metrics.tokens.labels("openai", 'a "b" \\ c\n', "prompt").inc(2)
    text = told(metrics)
    assert sorted(write(parse(text)).decode().splitlines()) == sorted(text.splitlines())


def test_nothing_adds_up_to_nothing() -> None:
    assert write(add_up([])) == b""
