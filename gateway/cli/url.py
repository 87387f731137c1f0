"""`gateway url`"""

from urllib.parse import quote

import click

from gateway.cli import channel_names
from gateway.cli.options import Sources, with_settings
from gateway.cli.target import target_of_clients, url_option
from gateway.config.target import target_of
from gateway.errors import ConfigError


@click.command(short_help="Print the URL of a channel for plain WebSocket clients.")
@click.argument("channel")
@url_option
@click.option("--token", metavar="TOKEN", help="Append this token as ?token=, for clients that cannot set headers.")
@with_settings("listen")
def url(sources: Sources, channel: str, url: str | None, token: str | None) -> None:
    """Print the URL of CHANNEL for the plain protocol, correctly quoted.

    In a URL, # would start a fragment, which never reaches the server. In a shell, $NAME would be replaced: put such a
    channel in single quotes.

    \b
    wscat --connect "$(gateway url '$chat:room#17')"
    """
    channel_names.require(channel)
    if url is not None:
        target = target_of(url)
    else:
        settings = sources.load()
        channel_names.warn_of_namespace(channel, settings)
        target = target_of_clients(settings)
    if target.socket:
        raise ConfigError(f"{target.name} is a Unix socket, which WebSocket URLs cannot name: give --url")
    query = f"?token={quote(token, safe='')}" if token is not None else ""
    # RFC 3986 section 3.3: ":" and "," are allowed in a segment of a path.
    click.echo(target.websocket(f"/ws/{quote(channel, safe=':,')}") + query)
