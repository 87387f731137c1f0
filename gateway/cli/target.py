"""Which gateway a client command talks to: the one of --url or GATEWAY_URL, else the one of the settings."""

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import click

from gateway.config import hosts, urls
from gateway.config.listen_addresses import joined, parse, reached
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# Without the URL, which may contain a login.
BAD_PROXY = "the proxy that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used: expected its URL"

url_option = click.option(
    "--url",
    envvar="GATEWAY_URL",
    show_envvar=True,
    metavar="URL",
    help="Where the gateway is: http://HOST:PORT, https://HOST:PORT or unix:PATH. [default: as in the settings]",
)


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


def target_of(url: str) -> Target:
    """The gateway at a URL (http, https, ws, wss or unix:PATH). Raises ConfigError."""
    if url.startswith("unix:") and len(url) > len("unix:"):
        return Target(False, "localhost", socket=url.removeprefix("unix:"))
    try:
        parts = urls.split(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or parts.login is not None or parts.query is not None:
            raise ValueError("it has another scheme, a login or a query")
    except ValueError as error:
        # Without the URL itself, which may contain a secret.
        raise ConfigError(
            f"--url or GATEWAY_URL: {error}; expected http://HOST:PORT, https://HOST:PORT or unix:PATH"
        ) from None
    port = f":{parts.port}" if parts.port is not None else ""
    return Target(parts.scheme in ("https", "wss"), hosts.bracketed(parts.host) + port, parts.path.rstrip("/"))


def target_of_clients(settings: "ServerSettings") -> Target:
    """The public listener, by its first address, as clients on this machine reach it."""
    return _listener("listen", settings.listen[0], secure=settings.tls.certificate is not None)


def target_of_api(settings: "ServerSettings") -> Target:
    """The listener with /api: the public one, or the internal one when `api.public` is off."""
    if settings.api.public:
        return target_of_clients(settings)
    if not settings.internal_listen:
        raise ConfigError("api.public is off and internal_listen is empty: there is no API; name a gateway with --url")
    return _listener("internal_listen", settings.internal_listen[0], secure=False)


def _listener(name: str, address: str, *, secure: bool) -> Target:
    endpoint = parse(address)
    if endpoint.path:
        return Target(secure, "localhost", socket=endpoint.path)
    if endpoint.port == 0:
        raise ConfigError(f"{name} = {address!r} has no fixed port: give --url")
    return Target(secure, joined(reached(endpoint.host), endpoint.port))
