"""What we use of uvicorn beyond its documented API is named in one place, and looked for before it is used."""

import ast
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from gateway.transports import uvicorn_internals
from gateway.transports.flow import BoundedFlowControl
from gateway.transports.http_protocol import GatewayHttpProtocol
from gateway.transports.server import GatewayServer
from gateway.transports.uvicorn_internals import NEWEST, OLDEST, USED, RequestResponseCycle, Use, lacking, objects
from tests.test_architecture import GRAPH, PACKAGE

SUBCLASSES: list[type[Any]] = [GatewayHttpProtocol, BoundedFlowControl, GatewayServer]


def test_nothing_else_imports_internals() -> None:
    """Of the package itself everybody may take what it documents."""
    users = {(module, name) for module, names in GRAPH.items() for name in names if name.partition(".")[0] == "uvicorn"}
    inner = {name for module, name in users if module == "gateway.transports.uvicorn_internals"}
    assert len(inner) == 4
    assert {name for module, name in users if module != "gateway.transports.uvicorn_internals"} == {"uvicorn"}


def test_of_the_package_only_what_it_documents_is_used() -> None:
    used = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "uvicorn":
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module == "uvicorn":
                used.update(alias.name for alias in node.names)
    assert used == {"Config", "Server"} <= set(uvicorn.__all__)


def names_of(owner: type[Any], *receivers: str) -> set[str]:
    """The attributes of these names, and of `super()`, in the source of a class; and what it defines."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(owner))):
        if isinstance(node, ast.Attribute):
            called = node.value.func if isinstance(node.value, ast.Call) else node.value
            if isinstance(called, ast.Name) and called.id in (*receivers, "super"):
                found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return found


def named(owner: type[Any]) -> set[str]:
    return {*USED[owner].methods, *USED[owner].attributes.split()}


@pytest.mark.parametrize("subclass", SUBCLASSES)
def test_everything_that_subclasses_use_is_named(subclass: type[Any]) -> None:
    """Nothing that uvicorn's object has is used or overridden without being looked for."""
    base = subclass.__base__
    assert base is not None
    specimen = next(each for each in objects() if type(each) is base)
    inherited = {name for name in names_of(subclass, "self") if hasattr(specimen, name)}
    assert inherited
    assert inherited - named(base) == set()


def test_everything_that_is_used_of_a_cycle_is_named() -> None:
    specimen = next(each for each in objects() if isinstance(each, RequestResponseCycle))
    used = {name for name in names_of(GatewayHttpProtocol, "cycle") if hasattr(specimen, name)}
    # The class has methods of the same name as attributes of a cycle: none is overridden here.
    assert used - {"__init__"} == named(RequestResponseCycle)


def test_the_installed_version_has_it_all() -> None:
    """And the objects that are looked at are of all the classes."""
    assert list(lacking()) == []
    assert {type(each) for each in objects()} == set(USED)


EVERY_USE = [(owner, name) for owner, use in USED.items() for name in (*use.methods, *use.attributes.split())]


@pytest.mark.parametrize(("owner", "name"), EVERY_USE, ids=lambda value: getattr(value, "__name__", value))
def test_whatever_is_missing_is_said(owner: type[Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each for itself, here by another name."""
    use = USED[owner]
    renamed = f"{name}_of_old"
    if name in use.methods:
        methods = {renamed if each == name else each: parameters for each, parameters in use.methods.items()}
        monkeypatch.setitem(USED, owner, Use(methods, use.attributes))
    else:
        attributes = " ".join(renamed if each == name else each for each in use.attributes.split())
        monkeypatch.setitem(USED, owner, Use(use.methods, attributes))
    assert list(lacking()) == [f"{owner.__name__}.{renamed}"]


def test_other_parameters_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: Any, cycle: Any, app: Any, context: Any) -> None:
        """One more."""

    monkeypatch.setattr(uvicorn_internals.HttpToolsProtocol, "_start_asgi_task", other)
    assert list(lacking()) == ["HttpToolsProtocol._start_asgi_task(cycle, app)"]


def test_objects_that_cannot_be_made_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Any) -> None:
        raise TypeError("one argument more")

    monkeypatch.setattr(uvicorn_internals.HttpToolsProtocol, "on_message_begin", failing)
    assert list(lacking()) == ["objects that can be made as expected (one argument more)"]


def test_the_requirement_ends_with_what_was_tested() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    major, minor = map(int, NEWEST.split("."))
    assert f"uvicorn>={OLDEST},<{major}.{minor + 1}" in project["dependencies"]


# uvicorn, but for something
LACKS_A_METHOD = """
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
del HttpToolsProtocol._start_asgi_task
"""
LACKS_A_MODULE = """
import sys
sys.modules["uvicorn.protocols.http.flow_control"] = None
"""
LACKS_A_NAME = """
import uvicorn.server
del uvicorn.server.ServerState
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A Python of its own, which has loaded nothing yet."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lack", "missing"),
    [
        (LACKS_A_METHOD, "HttpToolsProtocol._start_asgi_task"),
        (LACKS_A_MODULE, "uvicorn.protocols.http.flow_control"),
        (LACKS_A_NAME, "ServerState"),
    ],
    ids=["method", "module", "name"],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_says_what_is_missing(lack: str, missing: str, workers: str, tmp_path: Path) -> None:
    """And which version has it, instead of a traceback."""
    serve = f"""
from gateway.cli import main
main(["serve", "--no-auth", "--redis-url", "redis://127.0.0.1:1", "--listen", "127.0.0.1:0",
    "--internal-listen", "127.0.0.1:0", "--workers", "{workers}"])
"""
    done = run(lack + serve, tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [said] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert f"the installed uvicorn {uvicorn.__version__} does not fit, it lacks " in said
    assert missing in said
    assert f"uvicorn=={NEWEST}.*" in said


# One whose own classes still work.
HAS_A_PARAMETER_MORE = """
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
start = HttpToolsProtocol._start_asgi_task
HttpToolsProtocol._start_asgi_task = lambda self, cycle, app, context=None: start(self, cycle, app)
"""
EMBEDDED = """
import asyncio, logging, socket, uvicorn
from websockets.asyncio.client import connect
from gateway.app import Composition
from gateway.config.settings import ServerSettings
from gateway.transports.embedding import http_protocol

async def main():
    node = Composition(ServerSettings(no_auth=True))
    config = uvicorn.Config(node.public, http=http_protocol(node.options), log_config=None, log_level="critical")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()
    async with connect(f"ws://{host}:{port}/ws/news", proxy=None) as client:
        await client.send("hello")
        print(config.http, await client.recv())
    server.should_exit = True
    await running

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
asyncio.run(main())
"""


def test_an_embedder_gets_plain_asgi_and_a_warning(tmp_path: Path) -> None:
    """One, and clients are served."""
    done = run(HAS_A_PARAMETER_MORE + EMBEDDED, tmp_path)
    assert done.stdout == "auto hello\n", done.stderr
    [warning] = [line for line in done.stderr.splitlines() if line.startswith("WARNING gateway.transports.embedding")]
    assert "over plain ASGI" in warning
    assert "HttpToolsProtocol._start_asgi_task(cycle, app)" in warning


def test_the_applications_need_no_uvicorn(tmp_path: Path) -> None:
    """They run under any server."""
    program = "import gateway.app, sys; print([name for name in sys.modules if name.startswith('uvicorn')])"
    assert run(program, tmp_path).stdout == "[]\n"
