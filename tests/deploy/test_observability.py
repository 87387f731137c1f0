"""Alerts and dashboard: what they look at is what the gateway counts."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # PyYAML has no types
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def exported() -> set[str]:
    families = text_string_to_metric_families(Metrics().render().decode())
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}


def named(expression: str) -> list[str]:
    return re.findall(r"\b(?:gateway|process)_\w+", expression)


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    text = (DEPLOY / "grafana" / "dashboards" / "gateway.json").read_text()
    found: list[dict[str, Any]] = json.loads(text)["panels"]
    return found


def test_metrics_exist() -> None:
    """Alerts and panels name no metric that a node does not export."""
    asked = [rule["expr"] for rule in alerts()]
    asked += [target["expr"] for panel in panels() for target in panel["targets"]]
    names = {name for expression in asked for name in named(expression)}
    assert names
    assert names <= exported()


def test_labels_exist() -> None:
    """What an expression groups by is the label of its metric, or one that Prometheus adds."""
    labels = {m.name + "_total": m.label for m in vars(Metrics()).values() if hasattr(m, "label")}
    for panel in panels():
        for target in panel["targets"]:
            name = next(iter(named(target["expr"])), "")
            for group in re.findall(r"by \((\w+)\)", target["expr"]):
                assert group in ("le", "instance", labels.get(name)), target["expr"]


def test_datasource() -> None:
    """Every panel asks the datasource that is provisioned."""
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"] for source in sources}


def test_promtool() -> None:
    """Prometheus itself takes its configuration and the rules."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian: prometheus)")
    config = DEPLOY / "prometheus" / "prometheus.yml"
    done = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
