"""Which gateway a client command talks to: the one of --url or GATEWAY_URL, else the one of the settings."""

from typing import TYPE_CHECKING

import click

from gateway.config.listen_addresses import joined, parse, reached
from gateway.config.target import Target
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings

url_option = click.option(
    "--url",
    envvar="GATEWAY_URL",
    show_envvar=True,
    metavar="URL",
    help="Where the gateway is: http://HOST:PORT, https://HOST:PORT or unix:PATH. [default: as in the settings]",
)


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
