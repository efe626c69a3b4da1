"""Prometheus, its alerts and the dashboard ask for what the gateway exposes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest

from deploy import dashboard, metrics_table
from gateway.telemetry.metrics import Expected, Metrics
from gateway.upstreams.errors import Kind
from tests.services import needed

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "deploy/grafana/provisioning"
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/parley.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]

EXPOSED = {
    series: set(row.labels) for row in metrics_table.rows(Metrics()) for series in row.series
}
MEANINGS = {row.name: row.meaning for row in metrics_table.rows(Metrics())}
LABELS = EXPOSED
EXPOSED_LABELS = {
    name: labels | ({"le"} if name.endswith("_bucket") else set())
    for name, labels in EXPOSED.items()
} | {"parley_build_info": {"version"}}
ADDED = {"instance", "job", "le"}
"""Labels that Prometheus adds, and that of a histogram's buckets."""
NOT_OURS = re.compile(r"up|process_[a-z_]+|python_info")


def selectors(query: str) -> Iterator[promql_parser.VectorSelector]:
    """What a query asks for; Grafana's variables are filled in."""
    for variable in ("$__rate_interval", "$__range"):
        query = query.replace(variable, "1m")
    found: list[promql_parser.VectorSelector] = []

    def visit(expr: promql_parser.Expr) -> None:
        if isinstance(expr, promql_parser.VectorSelector):
            found.append(expr)
        elif isinstance(expr, promql_parser.MatrixSelector):
            found.append(expr.vector_selector)

    promql_parser.walk(promql_parser.parse(query), visit)
    return iter({(one.name, one.prettify()): one for one in found}.values())


def groupings(query: str) -> set[str]:
    return {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", query)
        for label in labels.split(",")
    }


def test_promql_is_taken_apart() -> None:
    query = 'sum by (le) (rate(a_bucket{x="1"}[$__rate_interval])) / on () b'

    assert {one.name for one in selectors(query)} == {"a_bucket", "b"}
    assert groupings(query) == {"le"}


@pytest.mark.parametrize(
    ("title", "query"), [*QUERIES, *((rule["alert"], rule["expr"]) for rule in RULES)]
)
def test_a_query_asks_for_metrics_and_labels_that_exist(title: str, query: str) -> None:
    known: set[str] = set(ADDED)
    for selector in selectors(query):
        assert selector.name is not None
        if NOT_OURS.fullmatch(selector.name):
            continue
        assert selector.name in LABELS, f"{title}: no metric {selector.name}"
        labels = LABELS[selector.name] | ADDED
        known |= labels
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= labels, f"{title}: {selector.name} has no label {matched - labels}"
    assert groupings(query) <= known, f"{title}: grouped by a label that no metric has"


def born() -> dict[str, list[dict[str, str]]]:
    """The labels of every series of a server that has just started, by name."""
    metrics = Metrics()
    expected = {name: [Expected("p", "m", "m")] for name in ("chat", "stt", "tts")}
    metrics.expect(["key"], expected)
    metrics.resting.labels("p")
    found: dict[str, list[dict[str, str]]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(dict(sample.labels))
    return found


BORN = born()
ENGINES = re.compile(r"parley_engine_(queue|inference|batch|waiting).*")
"""Their series begin when the engine is made, before anything is served."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_what_an_alert_asks_for_is_there_from_the_start(rule: dict[str, Any]) -> None:
    """increase() does not see the first event of a series that begins with it."""
    for selector in selectors(rule["expr"]):
        assert selector.name is not None
        if NOT_OURS.fullmatch(selector.name) or ENGINES.fullmatch(selector.name):
            continue
        series = BORN.get(selector.name, [])
        for matcher in selector.matchers.matchers:
            if matcher.name in ADDED:
                continue
            values = {labels[matcher.name] for labels in series}
            for one in matcher.value.split("|"):
                assert any(re.fullmatch(one, value) for value in values), (selector.name, one)
        assert series, selector.name


def test_the_tests_of_alerts_use_series_as_the_server_makes_them() -> None:
    tests = yaml.safe_load((Path(__file__).parent / "alerts.test.yml").read_text())["tests"]
    for series in {one["series"] for test in tests for one in test["input_series"]}:
        (selector,) = selectors(series)
        assert selector.name is not None
        if not NOT_OURS.fullmatch(selector.name):
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels - {"instance", "job"} == set(EXPOSED_LABELS[selector.name]), series


OUTCOMES_IN_MEANING = ("parley_usage_records_total", "parley_config_reloads_total")

COUNTED = [
    (rule["alert"], selector.name)
    for rule in RULES
    for selector in selectors(rule["expr"])
    if "increase(" in rule["expr"] and selector.name and LABELS.get(selector.name)
]


@pytest.mark.parametrize(("alert", "counter"), sorted(set(COUNTED)))
def test_an_alert_about_single_events_sees_the_first_one(alert: str, counter: str) -> None:
    (expr,) = (rule["expr"] for rule in RULES if rule["alert"] == alert)
    if f"\n{counter}{{" in generate_latest(Metrics().registry).decode():
        return  # it is there from the start

    assert re.search(rf"{counter}(\{{[^}}]*\}})?\s+unless {counter}(\{{[^}}]*\}})? offset", expr)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_about_processes_means_gateways_alone(rule: dict[str, Any]) -> None:
    names = {selector.name for selector in selectors(rule["expr"])}

    if any(name and NOT_OURS.fullmatch(name) for name in names):
        assert "parley_build_info" in names


@pytest.mark.parametrize("query", [rule["expr"] for rule in RULES])
def test_an_alert_asks_for_kinds_of_failure_that_exist(query: str) -> None:
    for selector in selectors(query):
        kinds = {kind.value for kind in Kind}
        if selector.name in OUTCOMES_IN_MEANING:
            kinds = set(re.findall(r"\w+", MEANINGS[selector.name]))
        for matcher in selector.matchers.matchers:
            if matcher.name in ("kind", "outcome"):
                for part in matcher.value.split("|"):
                    assert any(re.fullmatch(part, kind) for kind in kinds), part


def test_every_metric_can_be_seen_on_the_dashboard() -> None:
    asked = {selector.name for _, query in QUERIES for selector in selectors(query)}
    unseen = [row.name for row in metrics_table.rows(Metrics()) if not row.series & asked]

    assert unseen == [], "add a panel to deploy/dashboard.py, then: python -m deploy.generate"


def test_panels_lie_side_by_side_without_covering_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= dashboard.GRID_COLUMNS
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_have_numbers_and_queries_letters_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(set(numbers)) == len(numbers)
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) > 0


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    chosen = DASHBOARD["templating"]["list"][0]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    assert (chosen["name"], chosen["query"]) == ("datasource", source["type"])
    assert chosen["current"]["value"] == source["uid"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose
    used = {json.dumps(panel["datasource"]) for panel in PANELS}
    assert used == {'{"type": "prometheus", "uid": "${datasource}"}'}


def test_grafana_looks_for_dashboards_where_compose_puts_them() -> None:
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/parley.yml").read_text())["providers"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in grafana["volumes"]}
    place = provider["options"]["path"]

    assert (ROOT / mounted[place] / "parley.json").is_file()
    assert mounted["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{place}/parley.json"


def test_a_rate_spans_several_scrapes() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]

    # Grafana takes four of these as its least $__rate_interval
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_grave_it_is_what_has_happened_and_what_to_do(
    rule: dict[str, Any],
) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"]


def test_what_a_runbook_names_exists() -> None:
    for rule in RULES:
        told = rule["annotations"]["runbook"]
        for metric in re.findall(r"`(parley_\w+)`", told):
            assert metric in {re.sub("_(bucket|count|sum)$", "", row) for row in EXPOSED}, metric
        for file in re.findall(r"deploy/\S+\.md", told):
            assert (ROOT / file).is_file(), file


def test_every_alert_is_tested() -> None:
    tested = yaml.safe_load((Path(__file__).parent / "alerts.test.yml").read_text())["tests"]
    cases = [case for test in tested for case in test["alert_rule_test"]]

    for rule in RULES:
        outcomes = [bool(c["exp_alerts"]) for c in cases if c["alertname"] == rule["alert"]]
        assert set(outcomes) == {True, False}, f"{rule['alert']} must ring once and be silent once"


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [needed("promtool"), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", ["prometheus.yml", "prometheus.production.yml", "prometheus.machine.yml"]
)
def test_prometheus_accepts_its_configuration_and_the_alerts(name: str) -> None:
    promtool("check", "config", f"deploy/{name}")


def test_alertmanager_accepts_its_configuration() -> None:
    command = [needed("amtool"), "check-config", "deploy/alertmanager.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_ring_when_they_should() -> None:
    promtool("test", "rules", "tests/deploy/alerts.test.yml")
