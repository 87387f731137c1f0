"""values.yaml, its schema and the README of the chart tell the same, and the truth. Needs no helm."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from gateway import __version__
from gateway.config.settings import ServerSettings
from tests.kubernetes.chart import CHART
from tests.kubernetes.values_schema import VALUES_SCHEMA, with_settings

SCHEMA = json.loads(VALUES_SCHEMA.read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())

# Filled in by Helm for charts that contain this one.
GLOBAL = {"global"}


def test_schema_knows_the_settings_as_they_are_now() -> None:
    """`python -m tests.kubernetes.values_schema` writes it."""
    assert with_settings(SCHEMA) == SCHEMA


def test_schema_is_one_and_takes_the_defaults() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(VALUES)


def test_schema_leaves_nothing_open() -> None:
    """A misspelt value is refused in every section of the chart's own."""

    def closed(node: dict[str, Any]) -> Iterator[bool]:
        if "properties" in node:
            yield node.get("additionalProperties") is False
            for below in node["properties"].values():
                yield from closed(below)

    assert all(closed(SCHEMA))


def test_every_value_has_a_default_and_every_default_a_schema() -> None:
    def same(values: dict[str, Any], schema: dict[str, Any]) -> None:
        properties = schema["properties"]
        assert values.keys() == properties.keys() - GLOBAL
        for name, below in properties.items():
            if "properties" in below:
                same(values[name], below)

    same(VALUES, SCHEMA)


def test_chart_is_of_the_version_of_the_gateway() -> None:
    """The image's tag comes from it."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_default_settings_are_settings() -> None:
    assert ServerSettings.model_validate(VALUES["settings"]).drain.delay > 0
