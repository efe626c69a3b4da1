"""The Grafana dashboard, made from a list of panels: deploy/grafana/dashboards/parley.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

GRID_COLUMNS = 24
SCHEMA_VERSION = 39
"""Grafana 11's; newer ones migrate it when they load it."""

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """PromQL and the name of its lines. `$here` is the choice of instances, `$all` that of
    instances and routes."""

    promql: str
    legend: str = ""

    def target(self, ref: str, *, instant: bool) -> Json:
        expr = self.promql.replace("$all", '$here, route=~"$route"')
        return {
            "refId": ref,
            "datasource": _SOURCE,
            "expr": expr.replace("$here", 'instance=~"$instance"'),
            "legendFormat": self.legend or "__auto",
            "instant": instant,
            "range": not instant,
        }


@dataclass(frozen=True)
class Panel:
    """One picture. `stat` shows the newest value, otherwise lines over time."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    meaning: str = ""
    stat: bool = False
    stack: bool = False
    width: int = 8
    alarm_at: float | None = None
    """The value from which on it is shown in red."""


def _quantiles(metric: str, by: str, legend: str, chosen: str) -> tuple[Query, ...]:
    """Median and 95th or 99th percentile of a histogram."""
    high = 0.99 if metric.startswith("parley_engine") else 0.95
    return tuple(
        Query(
            f"histogram_quantile({q}, "
            f"sum by (le{by}) (rate({metric}_bucket{{{chosen}}}[$__rate_interval])))",
            f"p{q * 100:g} {legend}".strip(),
        )
        for q in (0.5, high)
    )


def _rate(metric: str, by: str, chosen: str, legend: str) -> Query:
    return Query(f"sum by ({by}) (rate({metric}{{{chosen}}}[$__rate_interval]))", legend)


_FAILED = 'outcome!~"ok|left|not_served"'

ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel(
            "Gateways",
            (Query("count(parley_build_info{$here})"),),
            stat=True,
            width=3,
            meaning="Instances that answer Prometheus.",
        ),
        Panel(
            "Open sessions",
            (Query("sum(parley_open_sessions{$all})"),),
            stat=True,
            width=3,
        ),
        Panel(
            "Requests",
            (Query("sum(rate(parley_requests_total{$all}[$__rate_interval]))"),),
            "reqps",
            stat=True,
            width=3,
        ),
        Panel(
            "Failing",
            (
                Query(
                    f"(sum(rate(parley_requests_total{{$all, {_FAILED}}}[$__rate_interval])) or "
                    "vector(0)) / sum(rate(parley_requests_total{$all}[$__rate_interval]))"
                ),
            ),
            "percentunit",
            stat=True,
            width=3,
            alarm_at=0.05,
            meaning="Share of requests that ended in an error.",
        ),
        Panel(
            "First byte, p95",
            (
                Query(
                    "histogram_quantile(0.95, sum by (le) "
                    "(rate(parley_time_to_first_byte_seconds_bucket{$all}[$__rate_interval])))"
                ),
            ),
            "s",
            stat=True,
            width=3,
            alarm_at=3.0,
        ),
        Panel(
            "Fallbacks",
            (Query("sum(increase(parley_fallbacks_total{$all}[$__range])) or vector(0)"),),
            stat=True,
            width=3,
            meaning="Moves to a next provider, over the time shown.",
        ),
        Panel(
            "Interruption answer, p99",
            (
                Query(
                    "histogram_quantile(0.99, sum by (le) (rate(parley_engine_queue_seconds_bucket"
                    '{$here, model="interruption"}[$__rate_interval]))) + '
                    "histogram_quantile(0.99, sum by (le) (rate("
                    'parley_engine_inference_seconds_bucket{$here, model="interruption"}'
                    "[$__rate_interval])))"
                ),
            ),
            "s",
            stat=True,
            width=3,
            alarm_at=0.4,
            meaning="Waiting and inference. A client gives up after 0.7 s.",
        ),
        Panel(
            "Up for",
            (Query("time() - max(process_start_time_seconds{$here})"),),
            "s",
            stat=True,
            width=3,
            meaning="Since the youngest instance started.",
        ),
    ),
    "Callers": (
        Panel(
            "Requests and sessions that ended",
            (_rate("parley_requests_total", "route", "$all", "{{route}}"),),
            "reqps",
            stack=True,
        ),
        Panel(
            "Open now",
            (Query("sum by (route) (parley_open_sessions{$all})", "{{route}}"),),
            stack=True,
        ),
        Panel(
            "Duration",
            _quantiles("parley_duration_seconds", ", route", "{{route}}", "$all"),
            "s",
            meaning="From request to end of answer, or the life of a WebSocket session.",
        ),
        Panel(
            "Ended in an error",
            (
                _rate(
                    "parley_requests_total",
                    "route, outcome",
                    f"$all, {_FAILED}",
                    "{{route}} {{outcome}}",
                ),
            ),
            "reqps",
            stack=True,
        ),
        Panel(
            "Failures by kind",
            (_rate("parley_errors_total", "route, kind", "$all", "{{route}} {{kind}}"),),
            "ops",
            stack=True,
            meaning="Those that callers saw and those that another provider made up for.",
        ),
        Panel(
            "Refused at the door",
            (_rate("parley_refusals_total", "route, kind", "$all", "{{route}} {{kind}}"),),
            "reqps",
            stack=True,
            meaning="Tokens, limits, shutting down.",
        ),
    ),
    "Providers": (
        Panel(
            "Time to first byte",
            _quantiles(
                "parley_time_to_first_byte_seconds",
                ", route, provider, model",
                "{{route}} {{provider}} {{model}}",
                "$all",
            ),
            "s",
            meaning="From request to the first content sent to the caller.",
        ),
        Panel(
            "First audio of voices",
            _quantiles(
                "parley_tts_first_audio_seconds",
                ", provider, model",
                "{{provider}} {{model}}",
                "$here",
            ),
            "s",
        ),
        Panel(
            "First token by model",
            _quantiles(
                "parley_chat_first_token_seconds",
                ", provider, model",
                "{{provider}} {{model}}",
                "$here",
            ),
            "s",
        ),
        Panel(
            "What recognisers take",
            _quantiles(
                "parley_stt_latency_seconds",
                ", kind, provider, model",
                "{{kind}} {{provider}} {{model}}",
                "$here",
            ),
            "s",
        ),
        Panel(
            "Standbys of recognisers",
            (
                _rate(
                    "parley_stt_standby_seconds_total",
                    "provider, model",
                    "$here",
                    "{{provider}} {{model}}",
                ),
            ),
            "short",
            stack=True,
            meaning="Second recognisers that are kept connected, on average; counted when their "
            "sessions end.",
        ),
        Panel(
            "Tries",
            (
                _rate(
                    "parley_upstream_attempts_total",
                    "provider, outcome",
                    "$all",
                    "{{provider}} {{outcome}}",
                ),
            ),
            "reqps",
            stack=True,
        ),
        Panel(
            "Fallbacks",
            (
                _rate(
                    "parley_fallbacks_total",
                    "route, provider",
                    "$all",
                    "{{route}} after {{provider}}",
                ),
            ),
            "ops",
            stack=True,
            meaning="Moves to the next provider after the named one failed.",
        ),
        Panel(
            "Asked of two providers at once",
            (
                _rate(
                    "parley_hedges_total", "provider, outcome", "$here", "{{provider}} {{outcome}}"
                ),
            ),
            "ops",
            stack=True,
            width=6,
            meaning="Chat requests for which a second deployment was asked while the first was "
            "silent, and whether it served them.",
        ),
        Panel(
            "Tokens",
            (
                _rate(
                    "parley_tokens_total",
                    "provider, model, kind",
                    "$here",
                    "{{provider}} {{model}} {{kind}}",
                ),
            ),
            "ops",
            stack=True,
            width=6,
            meaning="A second, as providers counted them.",
        ),
        Panel(
            "Texts of /tts in its cache",
            (_rate("parley_tts_cache_total", "outcome", "$here", "{{outcome}}"),),
            "ops",
            stack=True,
            width=6,
        ),
        Panel(
            "Audio",
            (
                _rate(
                    "parley_audio_seconds_total",
                    "route, direction",
                    "$all",
                    "{{route}} {{direction}}",
                ),
            ),
            "short",
            width=6,
            meaning="Seconds of audio a second.",
        ),
        Panel(
            "Bytes",
            (_rate("parley_bytes_total", "route, direction", "$all", "{{route}} {{direction}}"),),
            "Bps",
            width=6,
        ),
    ),
    "Interruptions and turns": (
        Panel(
            "Callers over the agent",
            (_rate("parley_bargein_overlaps_total", "outcome", "$here", "{{outcome}}"),),
            "ops",
            stack=True,
            meaning="Interruptions, and overlaps through which the agent went on. Counted when "
            "the session ends.",
        ),
        Panel(
            "Until an interruption was decided",
            _quantiles("parley_bargein_decision_seconds", "", "", "$here"),
            "s",
            meaning="From the first window of the overlap.",
        ),
        Panel(
            "What followed an interruption",
            (
                _rate(
                    "parley_bargein_agreement_total",
                    "followed",
                    '$here, decision="interruption"',
                    "{{followed}}",
                ),
            ),
            "ops",
            stack=True,
            meaning="Words that /stt heard of the caller. Nothing: the agent may have fallen "
            "silent for a cough.",
        ),
        Panel(
            "What followed where the agent went on",
            (
                _rate(
                    "parley_bargein_agreement_total",
                    "followed",
                    '$here, decision="held"',
                    "{{followed}}",
                ),
            ),
            "ops",
            stack=True,
            meaning="Sentence: the caller may have wanted the floor, and did not get it.",
        ),
        Panel(
            "Answers that came too late",
            (
                Query(
                    "sum by (model) (increase(parley_engine_late_total{$here}[$__rate_interval]))",
                    "{{model}}",
                ),
            ),
            meaning="After 0.7 s a client does without interruptions for the rest of its call.",
        ),
        Panel(
            "Callers over the agent, by version",
            (
                _rate(
                    "parley_bargein_version_overlaps_total",
                    "version, outcome",
                    "$here",
                    "{{version}} {{outcome}}",
                ),
            ),
            "ops",
            stack=True,
            meaning="By the version of the interruption model that served the call "
            "(`bargein.models`).",
        ),
        Panel(
            "Until an interruption was decided, by version",
            _quantiles(
                "parley_bargein_version_decision_seconds", ", version", "{{version}}", "$here"
            ),
            "s",
            meaning="From the first window of the overlap.",
        ),
        Panel(
            "Decisions and what followed",
            (
                _rate(
                    "parley_bargein_followed_total",
                    "version, outcome",
                    "$here",
                    "{{version}} {{outcome}}",
                ),
            ),
            "ops",
            stack=True,
            meaning="Of calls that may be learnt from (`bargein.learn`): whether words or silence "
            "bore the decision out.",
        ),
        Panel(
            "Windows to learn from",
            (_rate("parley_bargein_windows_total", "outcome", "$here", "{{outcome}}"),),
            "ops",
            stack=True,
        ),
        Panel(
            "Answers of /bargein",
            (_rate("parley_bargein_answers_total", "verdict", "$here", "{{verdict}}"),),
            "ops",
            stack=True,
            width=12,
        ),
        Panel(
            "Answers of /eot",
            (
                _rate(
                    "parley_eot_answers_total", "input, verdict", "$here", "{{input}} {{verdict}}"
                ),
            ),
            "ops",
            stack=True,
            width=12,
        ),
        Panel(
            "Waiting for the engine",
            _quantiles("parley_engine_queue_seconds", ", model", "{{model}}", "$here"),
            "s",
            width=6,
            alarm_at=0.4,
        ),
        Panel(
            "Inference of a batch",
            _quantiles("parley_engine_inference_seconds", ", model", "{{model}}", "$here"),
            "s",
            width=6,
        ),
        Panel(
            "Windows in a batch",
            _quantiles("parley_engine_batch_size", ", model", "{{model}}", "$here"),
            width=6,
        ),
        Panel(
            "Windows that wait",
            (Query("sum by (model) (parley_engine_waiting{$here})", "{{model}}"),),
            width=6,
        ),
    ),
    "Cost": (
        Panel(
            "This hour",
            (Query("sum(increase(parley_cost_total{$here}[1h]))"),),
            stat=True,
            width=6,
            meaning="In usage.currency, by the prices that are known.",
        ),
        Panel(
            "The last day",
            (Query("sum(increase(parley_cost_total{$here}[1d]))"),),
            stat=True,
            width=6,
            meaning="`gateway usage` has it to the last digit.",
        ),
        Panel(
            "Cost an hour by key",
            (
                Query(
                    "3600 * sum by (key) (rate(parley_cost_total{$here}[$__rate_interval]))",
                    "{{key}}",
                ),
            ),
            stack=True,
            width=12,
        ),
        Panel(
            "Cost an hour by model",
            (
                Query(
                    "3600 * sum by (model) (rate(parley_cost_total{$here}[$__rate_interval]))",
                    "{{model}}",
                ),
            ),
            stack=True,
            width=12,
        ),
    ),
    "Process": (
        Panel(
            "Event loop late by",
            _quantiles("parley_event_loop_lag_seconds", ", instance", "{{instance}}", "$here"),
            "s",
            meaning="What holds it up holds up every call.",
        ),
        Panel(
            "Bounds that callers came to",
            (
                Query(
                    "sum by (bound) (increase(parley_bound_reached_total{$here}"
                    "[$__rate_interval])) > 0",
                    "{{bound}}",
                ),
            ),
            width=6,
            meaning="They were refused, closed or slowed down; deploy/security.md lists them.",
        ),
        Panel(
            "Tasks",
            (Query("parley_tasks{$here}", "{{instance}}"),),
            width=6,
            meaning="Of the event loop. They go with the calls: what stays is a leak.",
        ),
        Panel(
            "Usage records",
            (_rate("parley_usage_records_total", "outcome", "$here", "{{outcome}}"),),
            "ops",
            stack=True,
            width=6,
            meaning="Written, or what became of them while the store was away.",
        ),
        Panel(
            "Processor cores",
            (
                Query(
                    "rate(process_cpu_seconds_total{$here}[$__rate_interval])",
                    "{{instance}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Resident memory",
            (Query("process_resident_memory_bytes{$here}", "{{instance}}"),),
            "bytes",
            width=6,
        ),
        Panel(
            "Open file descriptors",
            (
                Query("process_open_fds{$here}", "{{instance}}"),
                Query("process_max_fds{$here}", "{{instance}} at most"),
            ),
            width=6,
        ),
        Panel(
            "WebSockets to providers",
            (Query("sum by (instance) (parley_upstream_sockets{$here})", "{{instance}}"),),
            width=6,
            meaning="Recognisers that listen, and connections to voices that are kept.",
        ),
        Panel(
            "Certificate is good for",
            (
                Query(
                    "(parley_certificate_expires_timestamp_seconds{$here} > 0) - time() "
                    "or parley_certificate_expires_timestamp_seconds{$here}",
                    "{{instance}}",
                ),
            ),
            "s",
            width=6,
            meaning="0: this gateway has none, and something in front of it may.",
        ),
        Panel(
            "Shutting down",
            (Query("parley_draining{$here}", "{{instance}}"),),
            width=6,
            meaning="1: it takes no new calls and waits for the end of those that it has.",
        ),
        Panel(
            "Shutting down ends in",
            (
                Query(
                    "parley_drain_ends_timestamp_seconds{$here} - time() * "
                    "(parley_drain_ends_timestamp_seconds{$here} > bool 0)",
                    "{{instance}}",
                ),
            ),
            "s",
            width=6,
            meaning="At the latest. 0: it is not shutting down.",
        ),
        Panel(
            "Providers at rest",
            (Query("max by (provider) (parley_provider_resting{$here})", "{{provider}}"),),
            width=6,
            meaning="1: it failed, and is asked last for a while.",
        ),
        Panel(
            "Redis does not answer",
            (
                Query(
                    "sum by (instance) (rate(parley_quota_store_failures_total{$here}"
                    "[$__rate_interval]))",
                    "{{instance}}",
                ),
            ),
            "cps",
            width=6,
            meaning="Meanwhile each gateway counts quotas and sessions for itself.",
        ),
        Panel(
            "Budgets that came to their warning or end",
            (
                Query(
                    "sum by (dimension, window, state) (increase(parley_budgets_reached_total"
                    "{$here}[$__rate_interval]))",
                    "{{dimension}} {{window}} {{state}}",
                ),
            ),
            width=6,
            meaning="soft: quota.warn_at is reached; hard: callers are refused. The log has names.",
        ),
        Panel(
            "Workers that died",
            (
                Query(
                    "sum by (instance) (increase(parley_worker_restarts_total{$here}"
                    "[$__rate_interval]))",
                    "{{instance}}",
                ),
            ),
            width=6,
            meaning="Of gateways with several (server.workers). Their sessions were cut off.",
        ),
        Panel(
            "Configuration read again",
            (
                Query(
                    "sum by (instance, outcome) (increase(parley_config_reloads_total{$here}"
                    "[$__rate_interval]))",
                    "{{instance}} {{outcome}}",
                ),
            ),
            width=6,
            meaning="`refused`: it has mistakes, the log says which, and nothing was changed.",
        ),
        Panel(
            "Age of the configuration in use",
            (
                Query(
                    "time() - max by (instance) (parley_config_taken_timestamp_seconds{$here})",
                    "{{instance}}",
                ),
            ),
            "s",
            width=6,
            meaning="Since the start, or the last `gateway reload` or SIGHUP that was applied.",
        ),
    ),
}


def _panel(panel: Panel, number: int, x: int, y: int) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.alarm_at is not None:
        steps.append({"color": "red", "value": panel.alarm_at})
    custom: Json = {"drawStyle": "line", "fillOpacity": 25 if panel.stack else 0, "lineWidth": 1}
    if panel.stack:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    if panel.alarm_at is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    options: Json = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.stat:
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "value",
        }
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.meaning,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": 4 if panel.stat else 8},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "color": {"mode": "thresholds" if panel.stat else "palette-classic"},
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {} if panel.stat else custom,
            },
            "overrides": [],
        },
        "options": options,
        "targets": [
            query.target(chr(ord("A") + i), instant=False) for i, query in enumerate(panel.queries)
        ],
    }


def _variable(name: str, label: str, query: str) -> Json:
    """A choice among what `query` finds; at first everything."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name, "qryType": 1},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
    }


def dashboard() -> Json:
    """The dashboard as Grafana stores it."""
    panels: list[Json] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": GRID_COLUMNS, "h": 1},
                "panels": [],
            }
        )
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > GRID_COLUMNS:
                x, y = 0, y + panels[-1]["gridPos"]["h"]
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x += panel.width
        y += panels[-1]["gridPos"]["h"]
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "current": {"text": "Prometheus", "value": "prometheus"},
        "options": [],
        "hide": 0,
    }
    return {
        "uid": "parley",
        "title": "Parley",
        "description": "The inference layer of LiveKit voice agents.",
        "tags": ["parley", "livekit"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                source,
                _variable("instance", "Gateway", "label_values(parley_build_info, instance)"),
                _variable("route", "Route", "label_values(parley_open_sessions, route)"),
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def text() -> str:
    """What stands in the file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
