"""The dependency direction of the gateway, checked on every test run. Lives in tests/."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gateway"

# Lowest layer first. A module may import from its own part and from lower layers only.
LAYERS = [
    {"errors", "extensions", "json_text", "epochs"},
    {"messages", "config", "metrics", "log", "scheduler", "tokens", "encoding"},
    {"control", "guard"},
    {"tasks"},
    {"repeating"},
    {"listeners", "hangup"},
    {"channels"},
    {"protocols", "broker", "auth", "hooks"},
    {"hub"},
    # Sessions reach their node through a port of theirs, and the node its clients through one of its own.
    {"node", "session"},
    {"transports", "api", "demo"},
    {"client"},
    {"outbox"},
    {"entrances", "publisher"},
    {"in_force"},
    {"app"},
    {"in_process", "server_signals"},
    {"embedding"},
    {"testing"},
    {"running"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

# Parts, and modules of others, that must stay testable without a socket, a loop or Redis: with all that they import.
SANS_IO = [
    "errors",
    "extensions",
    "json_text",
    "encoding",
    "epochs",
    "messages",
    "control",
    "guard",
    "channels",
    "scheduler",
    "protocols",
    "auth.identity",
    "hooks.questions",
    "hooks.answers",
    "hooks.decisions",
    "hooks.payloads",
    "session",
    "hub",
    "node.messaging",
    "api.publications",
    "client.commands",
    "client.repeats",
    "client.calls",
    "outbox.rows",
    "client.tries",
    "publisher.job",
    "publisher.known",
]
IO_MODULES = {"asyncio", "socket", "ssl", "threading", "redis", "hiredis", "starlette", "uvicorn", "httpx"}


def imports(path: Path) -> Iterator[str]:
    """Names of modules; of `from package import name` the package, unless the name is a module of the gateway."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: use absolute imports"
            module = node.module or ""
            for alias in node.names:
                inner = PACKAGE.parent.joinpath(*module.split("."), alias.name)
                yield f"{module}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").exists() else module


def part_of(module: str) -> str:
    return module.split(".")[1]


def graph() -> dict[str, set[str]]:
    """All that each module of the gateway imports, for type checking and in functions too."""
    files = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
    names = (".".join(("gateway", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in files)
    return {name.removesuffix(".__init__"): set(imports(path)) for name, path in zip(names, files, strict=True)}


GRAPH = graph()


def reached(module: str) -> set[str]:
    """The module, and all modules of the gateway that it imports in turn."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += GRAPH[name] & GRAPH.keys()
    return found


def test_every_part_has_a_layer() -> None:
    assert GRAPH
    assert {part_of(module) for module in GRAPH} - RANK.keys() == set()


def test_imports_point_down() -> None:
    """And never sideways, to another part of the same layer."""
    wrong = [
        (module, name)
        for module, names in GRAPH.items()
        for name in names & GRAPH.keys()
        if part_of(name) != part_of(module) and RANK[part_of(name)] >= RANK[part_of(module)]
    ]
    assert wrong == []


def test_only_the_composition_root_knows_the_engines() -> None:
    """And publishers, which are no nodes. All others know the ports, and how the bus is versioned."""
    known = {"gateway.broker.base", "gateway.broker.envelope"}
    wrong = [
        (module, name)
        for module, names in GRAPH.items()
        for name in names - known
        if name.startswith("gateway.broker") and part_of(module) not in ("broker", "app", "publisher")
    ]
    assert wrong == []


def test_no_modules_import_each_other() -> None:
    """Nor in a circle over others."""
    circles = [
        (module, name)
        for module, names in GRAPH.items()
        for name in names & GRAPH.keys() - {module}
        if module in reached(name)
    ]
    assert circles == []


@pytest.mark.parametrize("part", SANS_IO)
def test_what_is_tested_by_calls_does_no_io(part: str) -> None:
    modules = [module for module in GRAPH if f"{module}.".startswith(f"gateway.{part}.")]
    assert modules
    wrong = {
        (module, name, root)
        for module in modules
        for name in reached(module)
        for root in {each.partition(".")[0] for each in GRAPH[name]} & IO_MODULES
    }
    assert wrong == set()
