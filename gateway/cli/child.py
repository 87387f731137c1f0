"""A node in a process of its own: how the parent starts it, and the entry of the child."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gateway
from gateway.cli.options import Sources
from gateway.cli.processes import Child, Family
from gateway.config.listen_addresses import joined, reached

if TYPE_CHECKING:
    from gateway.config.reloading import Source
    from gateway.config.settings import ServerSettings

_STDOUT, _STDERR = 1, 2
_ENTRY = """
import sys
_, name, folder = sys.argv
if folder not in sys.path:
    sys.path.insert(0, folder)
from gateway.cli.child import main
sys.exit(main(name))
"""


class ChildSource(NamedTuple):
    """Where a child reads its settings again: the sources of its parent, and additions by the parent."""

    sources: Sources
    # What the parent got when it started.
    first: "ServerSettings"
    # Added where the settings have none, so that a cluster works without any settings. Empty when not needed; made once
    # for a run.
    hmac_secret: str = ""
    api_key: str = ""
    origins: tuple[str, ...] = ()

    def complete(self, settings: "ServerSettings") -> "ServerSettings":
        """The settings with missing keys filled in and the origins added."""
        from pydantic import SecretStr

        auth, api, origins = settings.auth, settings.api, settings.origins
        if self.hmac_secret and needs_secret(settings):
            auth = auth.model_copy(update={"hmac_secret": SecretStr(self.hmac_secret)})
        if self.api_key and needs_api_key(settings):
            api = api.model_copy(update={"keys": (SecretStr(self.api_key),)})
        if self.origins:
            origins = origins.model_copy(update={"allowed": (*origins.allowed, *self.origins)})
        return settings.model_copy(update={"auth": auth, "api": api, "origins": origins})

    def orders(self) -> dict[str, Any]:
        """As JSON."""
        path, flags, code = self.sources
        return {
            **self._asdict(),
            "sources": (str(path) if path is not None else None, flags, dict(code)),
            "first": _dumped(self.first),
        }


def own_origins(settings: "ServerSettings", host: str, ports: Iterable[int]) -> tuple[str, ...]:
    """The origins of pages that nodes serve themselves, on these ports of the address that they listen on."""
    scheme = "https" if settings.tls.certificate else "http"
    hosts = dict.fromkeys(["127.0.0.1", "localhost", reached(host)])
    return tuple(f"{scheme}://{joined(each, port)}" for each in hosts for port in ports)


def needs_secret(settings: "ServerSettings") -> bool:
    """Whether a key to check tokens with is needed and missing."""
    return not settings.no_auth and not settings.auth.has_key


def needs_api_key(settings: "ServerSettings") -> bool:
    """Whether nobody could call the API."""
    return not settings.no_auth and not (settings.api.keys or settings.api.insecure)


def start_node(
    family: Family,
    name: str,
    settings: "ServerSettings",
    source: ChildSource,
    sockets: Sequence[socket.socket],
    internal_sockets: Sequence[socket.socket] | None = None,
    killed_from: Sequence[str] = (),
) -> Child:
    """Start a node that serves these listening sockets; the parent may close its own copies at once.

    Without `internal_sockets` the node itself binds the address in its settings. `killed_from`: see `demo_routes`. The
    child is `ready` when it accepts.
    The settings, secrets included, go through a pipe. Raises GatewayError.
    """
    from gateway.config.reloading import plain

    # The child runs the same package as its parent, from wherever that was imported. -P: not a folder named gateway in
    # the current directory.
    folder = str(Path(gateway.__file__).parents[1])
    command = [sys.executable, "-P", "-c", _ENTRY, name, folder]
    orders = {
        "settings": _dumped(settings),
        "source": source.orders(),
        "sockets": _numbers(sockets),
        "internal_sockets": None if internal_sockets is None else _numbers(internal_sockets),
        "killed_from": tuple(killed_from),
    }
    inherited = [*sockets, *(internal_sockets or ())]
    text = json.dumps(orders, default=plain).encode()
    # The child inherits the blocked signal (execve(2)), and unblocks it once it can read its settings again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        return family.start(name, command, orders=text, sockets=inherited)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dumped(settings: "ServerSettings") -> dict[str, Any]:
    """Without settings that nobody set: some defaults depend on that."""
    return settings.model_dump(exclude_unset=True)


def _numbers(sockets: Sequence[socket.socket]) -> list[int]:
    return [each.fileno() for each in sockets]


def main(name: str) -> int:
    """Serve as the parent orders on standard input; the exit code. `name` is what the parent calls this node."""
    from gateway.config.settings import ServerSettings
    from gateway.errors import GatewayError

    report = os.dup(_STDOUT)
    # Whatever a library prints must not pass for a report.
    os.dup2(_STDERR, _STDOUT)
    orders = json.load(sys.stdin)
    given = orders["internal_sockets"]
    try:
        from gateway.running import run_node

        return run_node(
            ServerSettings.model_validate(orders["settings"]),
            sockets=_sockets(orders["sockets"]),
            internal_sockets=None if given is None else _sockets(given),
            on_ready=lambda: os.write(report, b"ready\n"),
            source=_source(orders["source"]),
            killed_from=orders["killed_from"],
            # It comes from the parent, which decides.
            interrupt_hurries=True,
        )
    except GatewayError as error:
        print(f"Error: {name}: {error}", file=sys.stderr)
        return 1


def _source(orders: dict[str, Any]) -> "Source":
    from gateway.config.reloading import Source
    from gateway.config.settings import ServerSettings

    path, flags, code = orders["sources"]
    sources = Sources(Path(path) if path is not None else None, flags, code)
    first = ServerSettings.model_validate(orders["first"])
    return Source(sources.load, first, ChildSource(**{**orders, "sources": sources, "first": first}).complete)


def _sockets(numbers: Sequence[int]) -> list[socket.socket]:
    return [socket.socket(fileno=each) for each in numbers]
