"""URLs, read in one way, so that no two libraries find different hosts in them.

Errors do not quote the URL: a misplaced part of it may be a piece of a password.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.config import hosts
from gateway.config.hosts import HIGHEST_PORT

_PORT = re.compile(r"[0-9]{1,5}")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODE = "percent-encode it (space is %20, # is %23, % is %25, / is %2F, ? is %3F, @ is %40)"


class Url(NamedTuple):
    """The parts of a URL. `login` is the part before the @, `query` the part after the ?; None if missing."""

    scheme: str
    login: str | None
    host: str
    port: int | None
    path: str
    query: str | None


def split(url: str) -> Url:
    """Take SCHEME://[LOGIN@]HOST[:PORT][/PATH][?QUERY] apart. The host is without brackets. Raises ValueError."""
    scheme, login, rest = cut(url)
    rest, mark, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    host, port = _authority(authority)
    return Url(scheme, login, host, port, slash + path, query if mark else None)


def cut(url: str) -> tuple[str, str | None, str]:
    """Scheme, login and the rest of a URL of any kind. Raises ValueError."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"it has a character that URLs cannot have; {_ENCODE}")
    if _STRAY_PERCENT.search(url):
        raise ValueError(f"it has a % without two hexadecimal digits after it; {_ENCODE}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError("it has no ://")
    login, at, rest = rest.rpartition("@")
    for character in "#/?@":
        if character in login:
            raise ValueError(f"there is a {character} before an @; {_ENCODE}")
    if "#" in rest:
        raise ValueError(f"it has a #; {_ENCODE}")
    return scheme, login if at else None, rest


def decoded(text: str) -> str:
    """Without percent-encoding. Raises ValueError."""
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("its percent-encoded part is not UTF-8") from None


def _authority(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, ""
    elif not _PORT.fullmatch(port) or not 1 <= int(port) <= HIGHEST_PORT:
        raise ValueError(f"expected a port after the host, a number from 1 to {HIGHEST_PORT}")
    if "%" in host:
        raise ValueError("the host is neither a name nor an address; it is never percent-encoded")
    return hosts.bare(host), int(port) if port else None
