"""The dependency direction of the gateway, checked on every test run. Lives in tests/."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "gateway"

# Lowest layer first. A module may import from its own part and from lower layers only.
LAYERS = [
    {"errors", "json_text", "epochs"},
    {"messages", "config", "metrics", "log", "scheduler", "tokens"},
    {"control", "guard"},
    {"repeating"},
    {"listeners", "hangup"},
    {"channels"},
    {"protocols", "broker", "auth", "hooks"},
    {"hub"},
    {"node"},
    {"session"},
    {"transports", "api", "demo"},
    {"app"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

# Parts that must stay testable without a socket, a loop or Redis.
SANS_IO = {
    "errors",
    "json_text",
    "epochs",
    "messages",
    "control",
    "guard",
    "channels",
    "scheduler",
    "protocols",
    "session",
    "hub",
}
IO_MODULES = {"asyncio", "socket", "ssl", "threading", "redis", "hiredis", "starlette", "uvicorn", "httpx"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: use absolute imports"
            yield node.module or ""
            if node.module in ("gateway", "gateway_loadtest"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def violations(files: list[Path]) -> Iterator[str]:
    for path in files:
        source = part_of(path)
        if source == "__init__":
            continue
        if source not in RANK:
            yield f"{path}: {source} has no layer"
            continue
        for name in imports(path):
            root, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if root == "gateway" and target in RANK and target != source and RANK[target] >= RANK[source]:
                yield f"{path}: {source} must not import {target}"
            if source in SANS_IO and root in IO_MODULES:
                yield f"{path}: {source} must not import {root}"


def test_imports_point_down_and_core_does_no_io() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    assert list(violations(files)) == []
