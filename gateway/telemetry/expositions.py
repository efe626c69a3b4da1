"""Adds up what several processes of one server tell Prometheus.

Counters, histograms and gauges are summed, `process_*` too (CPU, memory and files of all processes
together). What is 1 or 0 stays so: it is 1 if it is 1 anywhere. The start time is the earliest,
the end of a drain the latest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

LARGEST: Final = frozenset(
    {
        "parley_build_info",
        "python_info",
        "parley_draining",
        "parley_drain_ends_timestamp_seconds",
        "parley_provider_resting",
    }
)
"""Gauges that are 1 or 0, for which adding them up would say 2, and times of which 0 is none."""

SMALLEST: Final = frozenset({"process_start_time_seconds"})

LASTING: Final = frozenset({"counter", "histogram"})
"""Types that only ever rise: what a process that has ended had counted is kept."""

Series = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample and its labels."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, and the value of each of its samples."""

    name: str
    type: str
    help: str
    samples: Mapping[Series, float]


Exposition = Mapping[str, Family]
"""Metrics by name, in the order in which they are told."""


def parse(text: str) -> Exposition:
    """What a process tells, in Prometheus's text format. Raises ValueError."""
    return {
        one.name: Family(
            one.name,
            one.type,
            one.documentation,
            {(s.name, tuple(s.labels.items())): float(s.value) for s in one.samples},
        )
        for one in text_string_to_metric_families(text)
    }


def add_up(expositions: Iterable[Exposition]) -> Exposition:
    """What all of them tell together."""
    total: dict[str, Family] = {}
    for exposition in expositions:
        for name, family in exposition.items():
            known = total.get(name)
            total[name] = family if known is None else _joined(known, family)
    return total


def lasting(exposition: Exposition) -> Exposition:
    """What stays of a process that has ended, so that no counter of the whole falls."""
    return {name: family for name, family in exposition.items() if family.type in LASTING}


def write(exposition: Exposition) -> bytes:
    """The text format again."""
    return generate_latest(_Collected(exposition))


def _joined(one: Family, other: Family) -> Family:
    samples = dict(one.samples)
    for series, value in other.samples.items():
        if series not in samples:
            samples[series] = value
        elif one.name in LARGEST:
            samples[series] = max(samples[series], value)
        elif one.name in SMALLEST:
            samples[series] = min(samples[series], value)
        else:
            samples[series] += value
    return Family(one.name, one.type, one.help, samples)


async def exposition(registry: CollectorRegistry) -> bytes:
    """What a process tells, in the text format. Metric by metric: all of them at once would hold up
    every call for as long as they take."""
    told = []
    for metric in registry.collect():
        told.append(generate_latest(_Metrics((metric,))))
        await asyncio.sleep(0)
    return b"".join(told)


class _Metrics:
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class _Collected:
    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition

    def collect(self) -> Iterator[Metric]:
        for family in self._exposition.values():
            metric = Metric(family.name, family.help, family.type)
            for (name, labels), value in family.samples.items():
                metric.add_sample(name, dict(labels), value)
            yield metric
