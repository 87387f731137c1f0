"""A running gateway, as a URL names it."""

from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.config import hosts, urls
from gateway.errors import ConfigError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# Without the URL, which may contain a login.
BAD_PROXY = "the proxy that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used: expected its URL"


class Target(NamedTuple):
    """A running gateway. `socket` is the path of a Unix socket; `host` then only fills the Host header."""

    secure: bool
    # With its port, and with the brackets of IPv6, as in a URL.
    host: str
    prefix: str = ""
    socket: str = ""

    def http(self, path: str) -> str:
        return f"http{'s' if self.secure else ''}://{self.host}{self.prefix}{path}"

    def websocket(self, path: str) -> str:
        return f"ws{'s' if self.secure else ''}://{self.host}{self.prefix}{path}"

    @property
    def name(self) -> str:
        """For messages."""
        return f"unix:{self.socket}" if self.socket else self.http("")

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, so that proxies are not used."""
        return bool(self.socket) or urlsplit(self.http("")).hostname in _LOOPBACK


def target_of(url: str, names: str = "--url or GATEWAY_URL") -> Target:
    """The gateway at a URL (http, https, ws, wss or unix:PATH). Raises ConfigError; `names`: who gave the URL."""
    if url.startswith("unix:") and len(url) > len("unix:"):
        return Target(False, "localhost", socket=url.removeprefix("unix:"))
    try:
        parts = urls.split(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or parts.login is not None or parts.query is not None:
            raise ValueError("it has another scheme, a login or a query")
    except ValueError as error:
        # Without the URL itself, which may contain a secret.
        raise ConfigError(f"{names}: {error}; expected http://HOST:PORT, https://HOST:PORT or unix:PATH") from None
    port = f":{parts.port}" if parts.port is not None else ""
    return Target(parts.scheme in ("https", "wss"), hosts.bracketed(parts.host) + port, parts.path.rstrip("/"))
