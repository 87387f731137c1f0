"""What the chart's README shows can be installed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from gateway.config import checks, sources
from gateway.config.schema import Schema
from gateway.config.settings import ServerSettings
from gateway.metrics import Metrics
from tests.kubernetes.chart import CHART, kinds, render
from tests.kubernetes.pod import environment, settings_file

README = (CHART / "README.md").read_text()
BLOCKS = {title: yaml.safe_load(text) for title, text in re.findall(r"```yaml\n# (.*?)\n(.*?)```", README, re.S)}
FOREIGN = "values of prometheus-adapter"


def merged(values: Any, more: Any) -> Any:
    """As Helm merges files of values."""
    if not isinstance(values, dict) or not isinstance(more, dict):
        return more
    return {**values, **{name: merged(values.get(name), value) for name, value in more.items()}}


@pytest.mark.slow
@pytest.mark.parametrize("title", sorted(BLOCKS.keys() - {FOREIGN}))
def test_values_start_a_node_that_has_nothing_to_warn_of(title: str, tmp_path: Path) -> None:
    """Each example comes on top of the first one."""
    manifests = render(merged(BLOCKS["my-values.yaml"], BLOCKS[title]))
    assert "Deployment" in kinds(manifests)
    environ = environment(manifests)
    if "Redis over TLS" in title:
        environ["GATEWAY_REDIS__URL"] = environ["GATEWAY_REDIS__URL"].replace("redis://", "rediss://")
    settings = sources.read(settings_file(manifests, tmp_path), {}, environ).settings
    assert not checks.warnings(settings)


def test_rule_for_the_adapter_is_about_a_metric_of_the_gateway() -> None:
    (rule,) = BLOCKS[FOREIGN]["rules"]["custom"]
    assert rule["seriesQuery"].partition("{")[0] == Metrics().connections.name


def test_values_and_settings_that_are_named_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = re.findall(rf"`((?:{'|'.join(values)})(?:\.\w+)*)", README)
    assert named
    for name in named:
        section, *path = name.split(".")
        if section == "settings":
            assert not path or Schema(ServerSettings).find(tuple(path)), name
            continue
        below = values[section]
        for part in path:
            assert part in below, name
            below = below[part]
