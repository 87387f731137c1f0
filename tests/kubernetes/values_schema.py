"""The part of the chart's values.schema.json that is about the gateway's settings, made from the settings themselves.

`python -m tests.kubernetes.values_schema` writes it, so that `helm install` refuses a misspelt setting, not a pod.
"""

import json
from pathlib import Path
from typing import Any

from gateway.config.settings import ServerSettings

VALUES_SCHEMA = Path(__file__).parents[2] / "deploy" / "kubernetes" / "values.schema.json"
SETTINGS = "ServerSettings"


def settings_schemas() -> dict[str, Any]:
    """By name the schemas of all sections, and of the whole. Without what pydantic only adds for readers of forms."""
    root = ServerSettings.model_json_schema()
    sections = root.pop("$defs")
    schemas: dict[str, Any] = _plain({**sections, SETTINGS: root})
    return schemas


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """The chart's schema with fresh settings."""
    return {**schema, "$defs": settings_schemas()}


def _plain(node: Any) -> Any:
    """Titles repeat the names; defaults are in docs/settings.md, and Helm fills none in."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _plain(each) for name, each in value.items()} if key == "properties" else _plain(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and key != "default"
    }


if __name__ == "__main__":
    fresh = with_settings(json.loads(VALUES_SCHEMA.read_text()))
    VALUES_SCHEMA.write_text(json.dumps(fresh, indent=2, ensure_ascii=False) + "\n")
