"""A node in a process of its own: how the parent starts it, and the entry of the child."""

import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.cli.processes import Child, Family

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings

_STDOUT, _STDERR = 1, 2
_ENTRY = "import sys; from gateway.cli.child import main; sys.exit(main())"


def start_node(family: Family, name: str, settings: "ServerSettings", sockets: Sequence[socket.socket]) -> Child:
    """Start a node that serves these listening sockets; the parent may close its own copies at once.

    The child is `ready` when it accepts. Its settings, secrets included, go through a pipe. Raises GatewayError.
    """
    # -P: a folder named gateway in the user's directory is not this package.
    command = [sys.executable, "-P", "-c", _ENTRY, name]
    orders = {"settings": settings.model_dump(), "sockets": [each.fileno() for each in sockets]}
    return family.start(name, command, orders=json.dumps(orders, default=_plain).encode(), sockets=sockets)


def _plain(value: Any) -> str:
    """Settings that JSON does not know: secrets, paths and networks."""
    reveal = getattr(value, "get_secret_value", None)
    return str(value if reveal is None else reveal())


def main() -> int:
    from gateway.app import run_node
    from gateway.config.settings import ServerSettings
    from gateway.errors import GatewayError

    report = os.dup(_STDOUT)
    # Whatever a library prints must not pass for a report.
    os.dup2(_STDERR, _STDOUT)
    orders = json.load(sys.stdin)
    settings = ServerSettings.model_validate(orders["settings"])
    sockets = [socket.socket(fileno=each) for each in orders["sockets"]]
    try:
        return run_node(settings, sockets=sockets, on_ready=lambda: os.write(report, b"ready\n"))
    except GatewayError as error:
        print(f"Error: {sys.argv[1]}: {error}", file=sys.stderr)
        return 1
