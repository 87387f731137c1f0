"""Which values settings allow, in words, read from their JSON schema, so that nothing has to be said twice."""

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

Path = tuple[str, ...]
Node = dict[str, Any]

_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a text",
    "object": "a section",
}
_FORMATS = {
    "path": "the path of a file",
    "ipvanynetwork": "an address or network, for example 10.0.0.0/8",
    "address": "HOST:PORT, *:PORT or unix:PATH",
}


class Schema:
    """The tree of settings. A path is the keys from the root; the names of namespaces are keys like others."""

    __slots__ = ("_definitions", "root")

    def __init__(self, model: type[BaseModel]) -> None:
        schema = model.model_json_schema()
        self._definitions: Node = schema["$defs"]
        self.root: Node = self._resolve(schema)

    def _resolve(self, node: Node) -> Node:
        """Follow references, and look through "or null"."""
        if "$ref" in node:
            return self._definitions[node["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]  # JSON
        branches = [branch for branch in node.get("anyOf", ()) if branch.get("type") != "null"]
        return self._resolve({**node, "anyOf": (), **branches[0]}) if branches else node

    def child(self, node: Node, key: str) -> Node | None:
        """The node below a section or a table of sections; None when there is no such key."""
        below = node.get("properties", {}).get(key)
        if below is None:
            below = next(iter(node.get("patternProperties", {}).values()), None)
        return None if below is None else self._resolve(below)

    def find(self, path: Path) -> Node | None:
        node: Node | None = self.root
        for key in path:
            if node is None:
                return None
            node = self._item(node) if node.get("type") == "array" else self.child(node, key)
        return node

    def _item(self, node: Node) -> Node:
        return self._resolve(node["items"])

    def is_secret(self, path: Path) -> bool:
        """Whether the value at the path, or some value below it, is a secret."""
        node = self.find(path)
        return node is not None and self._holds_secret(node)

    def _holds_secret(self, node: Node) -> bool:
        if node.get("type") == "array":
            node = self._item(node)
        below = [*node.get("properties", {}).values(), *node.get("patternProperties", {}).values()]
        return node.get("format") == "password" or any(self._holds_secret(self._resolve(each)) for each in below)

    def paths(self, node: Node | None = None, prefix: Path = ()) -> Iterator[Path]:
        """All settings and sections; a table is one entry."""
        for key in (node or self.root).get("properties", ()):
            path = (*prefix, key)
            yield path
            yield from self.paths(self.find(path), path)

    def nearest(self, path: Path) -> Path | None:
        """The setting that an unknown path probably means: a similar name, or the same name in another section."""
        parent = self.find(path[:-1]) or {}
        names = difflib.get_close_matches(path[-1].lower(), parent.get("properties", ()), n=1)
        if names:
            return (*path[:-1], names[0])
        known = list(self.paths())
        for candidate in known:
            if candidate[-1] == path[-1]:
                return candidate
        dotted = difflib.get_close_matches(".".join(path), [".".join(each) for each in known], n=1)
        return tuple(dotted[0].split(".")) if dotted else None

    def allowed(self, path: Path) -> str:
        """The values that a setting takes, in words, for example "a whole number from 1 to 256"."""
        node = self.find(path)
        return "another type" if node is None else self._words(node)

    def _words(self, node: Node) -> str:
        if "enum" in node:
            return "one of " + ", ".join(node["enum"])
        if node.get("type") == "array":
            return f"a list; each: {self._words(self._item(node))}"
        words = _FORMATS.get(node.get("format", "")) or _NOUNS[node["type"]]
        return words + _bounds(node)


def _bounds(node: Node) -> str:
    bounds = ""
    if "exclusiveMinimum" in node:
        bounds += f" above {node['exclusiveMinimum']:g}"
    if "minimum" in node:
        bounds += f" from {node['minimum']:.0f}"
    if "maximum" in node:
        bounds += f" to {node['maximum']:.0f}"
    if "pattern" in node:
        bounds += f" that matches {node['pattern']}"
    if "minLength" in node:
        bounds += ", not empty"
    return bounds
