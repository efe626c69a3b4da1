"""The table of metrics in deploy/metrics.md, made from gateway/telemetry/metrics.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from gateway.telemetry.metrics import Metrics

BEGIN, END = "<!-- metrics -->", "<!-- /metrics -->"
"""The lines in that file between which the table stands."""


class Row(NamedTuple):
    """One metric. `name` is the one to ask Prometheus for, `series` all it is exposed as."""

    name: str
    series: frozenset[str]
    type: str
    labels: tuple[str, ...]
    meaning: str


_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


def rows(metrics: Metrics) -> Iterator[Row]:
    """Our own metrics, in the order in which they are declared."""
    # the registry has no public way to its collectors, nor they to their labels
    for collector in metrics.registry._collector_to_names:
        if not isinstance(collector, MetricWrapperBase):
            continue  # process_* and python_info: those of prometheus_client
        for family in collector.describe():
            suffixes = _SUFFIXES[family.type]
            yield Row(
                name=family.name + (suffixes[0] if len(suffixes) == 1 else ""),
                series=frozenset(family.name + suffix for suffix in suffixes),
                type=family.type,
                labels=tuple(collector._labelnames),
                meaning=family.documentation,
            )


def table(metrics: Metrics) -> str:
    """Markdown, one line a metric."""
    lines = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    for row in rows(metrics):
        labels = ", ".join(f"`{label}`" for label in row.labels)
        meaning = row.meaning.replace("|", "\\|")
        lines.append(f"| `{row.name}` | {row.type} | {labels} | {meaning} |")
    lines.append("")
    lines.append("Beside them `process_*` and `python_info`, as prometheus_client defines them.")
    return "\n".join(lines)


def put_into(page: str, metrics: Metrics) -> str:
    """`page` with the table between its markers. Raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}: the table goes between")
    return f"{before}{BEGIN}\n{table(metrics)}\n{END}{after}"
