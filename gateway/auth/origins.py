"""Whether pages of an origin may open connections here."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from gateway.errors import ConfigError
from gateway.log import cut, escape

# A host name has 253 characters at most (RFC 1035 section 2.3.4), a port five digits.
_LONGEST = 300

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class OriginOptions(Protocol):
    """The section `origins` of the settings."""

    @property
    def allowed(self) -> Sequence[str]: ...

    @property
    def required(self) -> bool | None: ...


class OriginPolicy:
    """Browsers send the origin of the page with every handshake, and let any page open one (RFC 6455 section 10.2).

    An Origin header must match an allowed origin. Without the header a client is accepted, unless it is required: only
    browsers can be tricked into connecting with somebody else's cookies, and they always send it.
    """

    __slots__ = ("_everybody", "_exact", "_required", "_suffixes")

    def __init__(self, options: OriginOptions, cookie: str) -> None:
        """`cookie` is the name of the cookie that may carry a token; with one, the origin is required by default.

        Raises ConfigError.
        """
        self._required = bool(cookie) if options.required is None else options.required
        self._everybody = "*" in options.allowed
        self._exact: set[tuple[str, str, int]] = set()
        # (scheme, ".example.com", port): any label or labels in front of it
        self._suffixes: set[tuple[str, str, int]] = set()
        for entry in options.allowed:
            if entry == "*":
                continue
            origin = _parse(entry.replace("://*.", "://", 1))
            if origin is None:
                raise ConfigError(
                    f"origins.allowed: {entry!r} is not an origin: expected https://example.com, "
                    "https://*.example.com or *"
                )
            scheme, host, port = origin
            if "://*." in entry:
                self._suffixes.add((scheme, f".{host}", port))
            else:
                self._exact.add(origin)

    def adopt(self, other: "OriginPolicy") -> None:
        """Use the rules of the other from now on."""
        self._required = other._required
        self._everybody = other._everybody
        self._exact = other._exact
        self._suffixes = other._suffixes

    @property
    def allows_all(self) -> bool:
        """Whether pages of every origin are allowed."""
        return self._everybody

    def check(self, origin: str | None) -> str | None:
        """Why the origin is refused, None if it is allowed. `origin` is the header as it was sent, None without one.

        The reason names the origin, which comes from a stranger: escaped and cut.
        """
        if origin is None:
            return "origin required (origins.required)" if self._required else None
        if self._everybody:
            return None
        parsed = _parse(origin)
        if parsed is not None and (parsed in self._exact or self._matches_suffix(*parsed)):
            return None
        return f"origin {escape(cut(origin, _LONGEST))} is not in origins.allowed"

    def _matches_suffix(self, scheme: str, host: str, port: int) -> bool:
        dot = host.find(".", 1)
        while dot != -1:
            if (scheme, host[dot:], port) in self._suffixes:
                return True
            dot = host.find(".", dot + 1)
        return False


def _parse(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a serialized origin (RFC 6454 section 6.2), None for anything else, `null` included."""
    scheme, separator, authority = origin.partition("://")
    if (
        not separator
        or not 0 < len(authority) <= _LONGEST
        or set(authority) & set("/?#@\\*, \t")
        or not origin.isascii()
    ):
        return None
    scheme = scheme.lower()
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if not host or authority.endswith(":") or not origin.isprintable():
        return None
    return scheme, host, port if port is not None else _DEFAULT_PORTS.get(scheme, 0)
