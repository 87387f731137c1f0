"""Servers that come from npm and PyPI, each into a folder of its own; and the gateway."""

import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway_loadtest.peers import redis_server
from gateway_loadtest.peers.binaries import said
from gateway_loadtest.peers.sandbox import PROGRAMS, RAW_PATH, MissingError, RunningPeer, Sandbox, find, free_port, make

NODES = 2
# In a folder of the cache when all of it is there.
COMPLETE = "complete"
NODE_REMEDY = "nodejs.org, or apt-get install nodejs npm"
# One process a node in all of them; what their documentation calls production.
NODE_ENV = {"NODE_ENV": "production"}
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--ws-per-message-deflate", "false", "--no-access-log",
           "--log-level", "warning", "--backlog", "4096")  # fmt: skip
# Without history, presence and limits, as the others are; --no-auth opens it to everybody.
GATEWAY = {
    "GATEWAY_CHANNELS__DELIVERY": "live",
    "GATEWAY_CHANNELS__PRESENCE": "false",
    "GATEWAY_LIMITS__COMMANDS_PER_SECOND": "0",
    "GATEWAY_LIMITS__PUBLISHES_PER_SECOND": "0",
    "GATEWAY_LIMITS__UNAUTHENTICATED": "20000",
}


def gateway(sandbox: Sandbox) -> RunningPeer:
    """One node that stands alone."""
    return RunningPeer("centrifuge", (_gateway(sandbox, {}),), _gateway_version())


def gateway_cluster(sandbox: Sandbox) -> RunningPeer:
    """Two nodes."""
    url = redis_server.start(sandbox)
    nodes = tuple(_gateway(sandbox, {"GATEWAY_REDIS__URL": url}) for _ in range(NODES))
    return RunningPeer("centrifuge", nodes, _gateway_version(), url)


def ws(sandbox: Sandbox) -> RunningPeer:
    """Node's `ws`."""
    node, folder = _node(sandbox)
    port = free_port()
    sandbox.start([node, folder / "ws.mjs", str(port)], port, NODE_ENV)
    return RunningPeer("raw", (f"ws://127.0.0.1:{port}{RAW_PATH}",), _npm_version(node, "ws"))


def socketio(sandbox: Sandbox) -> RunningPeer:
    """Socket.IO, two nodes with its Redis adapter."""
    node, folder = _node(sandbox)
    url = redis_server.start(sandbox)
    ports = [free_port() for _ in range(NODES)]
    for port in ports:
        sandbox.start([node, folder / "socketio.mjs", str(port), url], port, NODE_ENV)
    return RunningPeer("socketio", _urls(ports), _npm_version(node, "socket.io"), url)


def python_socketio(sandbox: Sandbox) -> RunningPeer:
    """python-socketio, two nodes with its Redis manager."""
    url = redis_server.start(sandbox)
    return RunningPeer(
        "socketio", _urls(_uvicorn(sandbox, "socketio_server", url)), _pypi_version("python-socketio"), url
    )


def channels(sandbox: Sandbox) -> RunningPeer:
    """Django Channels, two nodes with channels_redis."""
    url = redis_server.start(sandbox)
    targets = tuple(f"{target}{RAW_PATH}" for target in _urls(_uvicorn(sandbox, "channels_server", url)))
    return RunningPeer("raw", targets, _pypi_version("channels"), url)


def _urls(ports: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"ws://127.0.0.1:{port}" for port in ports)


def _gateway(sandbox: Sandbox, env: Mapping[str, str]) -> str:
    if importlib.util.find_spec("gateway") is None:
        raise MissingError(
            "the gateway is not installed; to get it: pip install . in a clone of it, into the environment of this tool"
        )
    port = free_port()
    command = [sys.executable, "-m", "gateway", "serve", "--no-auth", "--log-level", "warning"]
    listeners = ["--listen", f"127.0.0.1:{port}", "--internal-listen", ""]
    sandbox.start([*command, *listeners], port, {**GATEWAY, **env})
    return f"ws://127.0.0.1:{port}"


def _gateway_version() -> str:
    return said([sys.executable, "-m", "gateway", "--version"])


def _node(sandbox: Sandbox) -> tuple[Path, Path]:
    """Node, and the folder with its packages and the programs."""
    node, npm = find("node", NODE_REMEDY), find("npm", NODE_REMEDY)
    folder = _installed(
        sandbox, "node", PROGRAMS / "package.json", [npm, "install", "--omit=dev", "--no-audit", "--no-fund"]
    )
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    return node, folder


def _uvicorn(sandbox: Sandbox, program: str, redis_url: str) -> list[int]:
    """The nodes of a Python peer, in an environment of its own."""
    requirements = PROGRAMS / "requirements.txt"
    folder = _installed(sandbox, "python", requirements, [sys.executable, "-m", "venv", "venv"],
                        [Path("venv/bin/pip"), "install", "--quiet", "-r", requirements])  # fmt: skip
    env = {"REDIS_URL": redis_url, "PYTHONDONTWRITEBYTECODE": "1"}
    ports = [free_port() for _ in range(NODES)]
    for port in ports:
        options = ["--app-dir", str(PROGRAMS), "--port", str(port), *UVICORN]
        sandbox.start([folder / "venv/bin/python", "-m", "uvicorn", f"{program}:app", *options], port, env)
    return ports


def _installed(sandbox: Sandbox, name: str, wanted: Path, *commands: Sequence[str | Path]) -> Path:
    """A folder of the cache, filled by these commands, once for each content of the file that names the packages."""
    folder = _cached(sandbox, name, wanted)
    done = folder / COMPLETE
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(wanted, folder)
        for command in commands:
            first = Path(command[0])
            make([folder / first if first.parts[0] == "venv" else first, *command[1:]], folder)
        done.touch()
    return folder


def _cached(sandbox: Sandbox, name: str, wanted: Path) -> Path:
    return sandbox.cache / f"{name}-{hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]}"


def _npm_version(node: Path, package: str) -> str:
    wanted = json.loads((PROGRAMS / "package.json").read_text())["dependencies"]
    return f"{package} {wanted[package]}, node {said([node, '--version'])}"


def _pypi_version(package: str) -> str:
    wanted = dict(line.split("==") for line in (PROGRAMS / "requirements.txt").read_text().split())
    return f"{package} {wanted[package]}, uvicorn {wanted['uvicorn']}, python {sys.version.split()[0]}"
