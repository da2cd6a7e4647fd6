"""Dashboard and alerts: they use metrics and labels that the gateway exposes, and each alert has a runbook."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.metrics import Counters, Gauges, _GatewayCollector
from gateway.tools.configuration.init import TEMPLATES
from mcu.base import CloseReason
from mcu.janus.settings import JanusServerSettings
from tests.gateway.test_metric_names import scraped

OPERATIONS = (Path(__file__).parents[4] / "docs" / "operations.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((TEMPLATES / "grafana-dashboard.json").read_text())
ALERTS = (TEMPLATES / "prometheus-alerts.yml").read_text()
TARGET = {"instance", "job"}  # labels that Prometheus adds
PROMETHEUS_METRICS = {"up": TARGET}
PROCESS_PREFIX = "process_"  # these metrics have no labels

_metric = re.compile(r"\b(?:signaling|portunus|process)_\w+|\bup\b")
_selector = re.compile(r"\b([a-z_]+)\{([^}]*)\}")
_grouping = re.compile(r"\b(?:by|on) \(([^)]*)\)")
_label_reference = re.compile(r"\{\{ ?\$?(?:labels\.)?(\w+) ?\}\}")
_rule = re.compile(
    r" {6}- alert: (?P<name>\w+)\n {8}expr: (?P<expression>.+?)\n(?: {8}for: \d+[mh]\n)?"
    r" {8}labels: \{severity: (?:critical|warning|info)\}\n {8}annotations:\n"
    r' {10}summary: "(?P<summary>[^\n]+)"\n {10}runbook: "docs/operations\.md#(?P<runbook>[a-z]+)"\n',
    re.S,
)


def rules() -> list[re.Match[str]]:
    return list(_rule.finditer(ALERTS))


def panel_queries() -> Iterator[tuple[str, str]]:
    """Yield expression and legend of each query of the dashboard."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"], target["legendFormat"]


QUERIES = [*panel_queries(), *((rule["expression"], rule["summary"]) for rule in rules())]


@pytest.fixture
async def exposed() -> AsyncIterator[dict[str, set[str]]]:
    """Yield the labels of each metric that a gateway with Janus exposes, by its name in queries."""
    config = Config(
        sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
        http=HttpSection(listen=("127.0.0.1:0",)),
        mcu=McuSection(type="janus", settings=(JanusServerSettings("ws://127.0.0.1:9"),)),
    )
    gateway = Gateway(config)
    (url,) = await gateway.start()
    try:
        assert gateway.mcu is not None
        collector = _GatewayCollector(Counters(), Gauges(sfu_metrics=gateway.mcu.metrics))
        labels = {family.name: set(family._labelnames) for family in collector.collect()}
        found: dict[str, set[str]] = dict(PROMETHEUS_METRICS)
        for family in text_string_to_metric_families(await scraped(url)):
            endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            own = set() if family.name.startswith(PROCESS_PREFIX) else labels.get(family.name, set())
            for ending in endings:
                found[family.name + ending] = own | TARGET | ({"le"} if ending == "_bucket" else set())
        yield found
    finally:
        await gateway.stop()


async def test_each_metric_and_label_of_dashboard_and_alerts_is_exposed(exposed: dict[str, set[str]]) -> None:
    assert {"signaling_mcu_slow_link_total", "process_open_fds"} <= exposed.keys()
    assert exposed["portunus_streams_lost_total"] == {"type", "reason"} | TARGET
    for expression, text in QUERIES:
        metrics = set(_metric.findall(expression))
        assert metrics, expression
        assert metrics <= exposed.keys(), expression
        known = set[str]().union(*(exposed[metric] for metric in metrics))
        for metric, selector in _selector.findall(expression):
            assert set(re.findall(r"(\w+)=", selector)) <= exposed[metric], expression
        groupings = [set(re.split(r",\s*", grouping)) for grouping in _grouping.findall(expression)]
        assert set[str]().union(*groupings) <= known, expression
        visible = set.union(*groupings) if groupings and " on (" not in expression else known
        assert set(_label_reference.findall(text)) <= visible, (expression, text)


def test_reasons_in_queries_are_those_of_the_metric() -> None:
    reasons = [re.findall(r'streams_lost_total\{[^}]*reason=~?"([^"]+)"', expression) for expression, _ in QUERIES]
    named = {reason for found in reasons for text in found for reason in text.split("|")}
    assert named == {"lost", "ice_failed", "dtls_failed"}
    assert named <= {reason.value for reason in CloseReason}


def test_each_alert_is_read_and_has_its_section_in_the_documentation() -> None:
    found = [rule["name"] for rule in rules()]
    assert len(found) == ALERTS.count("- alert:") > 10
    assert [rule["runbook"] for rule in rules()] == [name.lower() for name in found]
    assert re.findall(r"(?m)^#### (Portunus\w+)$", OPERATIONS) == found


def test_panels_have_different_ids_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in panels
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(x < 24 for x, _ in cells)
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
