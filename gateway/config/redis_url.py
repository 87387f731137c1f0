"""The URL of a Redis or Valkey server."""

import re
from typing import NamedTuple

from gateway.config import hosts, urls

_EXPECTED = "expected redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS, or unix:///PATH[?db=N]"
_DEFAULT_PORT = 6379
# Redis keeps the number of databases in an int.
_LAST_DATABASE = 2**31 - 1
_DATABASE = re.compile("[0-9]{1,10}")


class Target(NamedTuple):
    """Where a Redis URL points to."""

    host: str
    port: int
    # Path of a Unix socket; host and port are then unused.
    path: str
    username: str
    password: str
    database: int
    tls: bool

    @property
    def name(self) -> str:
        """For messages: without user and password."""
        return self.path or f"{hosts.bracketed(self.host)}:{self.port}"

    @staticmethod
    def of(url: str) -> "Target":
        """redis://[[user]:password@]host[:port][/db or ?db=N], rediss://..., unix://[[user]:password@]/path[?db=N].

        Raises ValueError, whose text does not quote the URL.
        """
        if url.startswith("unix://"):
            return _unix(url)
        if not url.startswith(("redis://", "rediss://")):
            raise ValueError(_EXPECTED)
        parts = urls.split(url)
        username, password = _login(parts.login)
        database = parts.path.removeprefix("/")
        if database and parts.query is not None:
            _database(parts.query)
            raise ValueError("expected the database as /DB or as ?db=N, not both")
        number = _number(database) if database else _database(parts.query)
        port = _DEFAULT_PORT if parts.port is None else parts.port
        return Target(parts.host, port, "", username, password, number, parts.scheme == "rediss")


def _unix(url: str) -> Target:
    _, login, rest = urls.cut(url)
    username, password = _login(login)
    path, mark, query = rest.partition("?")
    path = urls.decoded(path)
    if not path.startswith("/") or not path.isprintable():
        raise ValueError("expected unix:///PATH: the whole path of a socket, of printable characters")
    return Target("", 0, path, username, password, _database(query if mark else None), False)


def _login(login: str | None) -> tuple[str, str]:
    if login is None:
        return "", ""
    username, _, password = login.partition(":")
    if not password:
        raise ValueError("there is no password before the @; expected USER:PASSWORD@ or :PASSWORD@")
    return urls.decoded(username), urls.decoded(password)


def _database(query: str | None) -> int:
    if query is None:
        return 0
    name, _, number = query.partition("=")
    if name != "db":
        raise ValueError("only db=N may follow the ?; TLS is rediss://, everything else is a setting (redis.*)")
    return _number(number)


def _number(text: str) -> int:
    if not _DATABASE.fullmatch(text) or int(text) > _LAST_DATABASE:
        raise ValueError(f"the database is not a number from 0 to {_LAST_DATABASE}")
    return int(text)
