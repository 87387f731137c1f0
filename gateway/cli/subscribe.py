"""`gateway subscribe`"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import Sources, with_settings
from gateway.cli.target import target_of_clients, url_option
from gateway.config.target import target_of
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.settings import AuthSettings

# Opens a channel; an empty text opens nothing.
Grant = Callable[[str], str]

OWN_TOKENS = (
    "with subscription tokens made from auth.hmac_secret, which open every channel; --token shows what a client gets"
)

# Seconds for which the command's own tokens are accepted. Connections and subscriptions outlive them.
TOKEN_LIFE = 60


@click.command(short_help="Print publications of channels as they come.")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@url_option
@click.option("--token", metavar="TOKEN", help="Connect with this connection token, to see what its client gets.")
@click.option("--user", metavar="ID", help="Connect as this user, with tokens for all the CHANNELs.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N publications.")
@with_settings()
def subscribe(
    sources: Sources, channels: Sequence[str], url: str | None, token: str | None, user: str | None, count: int | None
) -> None:
    """Print publications of channels as they come, one JSON object per line, until Ctrl-C.

    Without --token, the command makes its own tokens if the settings have auth.hmac_secret: to connect, and a
    subscription token for each channel. It then sees channels that a client of the same user may not subscribe to; to
    see what that client gets, give --token. Without auth.hmac_secret it connects as an anonymous client.

    \b
    gateway subscribe news '$chat:room'
    """
    from gateway.cli.follower import Follower

    if token is not None and user is not None:
        raise click.UsageError("give one of --token and --user")
    given: tuple[str, Grant]
    own = token is None
    if url is not None and token is not None:
        target, given = target_of(url), (token, _nothing)
    else:
        settings = sources.load()
        target = target_of(url) if url is not None else target_of_clients(settings)
        given = (token, _nothing) if token is not None else _own_tokens(settings.auth, user)
    if own and given[0]:
        click.echo(OWN_TOKENS, err=True)
    Follower(channels, *given, click.echo, count, own=own).follow(target)


def _own_tokens(auth: "AuthSettings", user: str | None) -> tuple[str, Grant]:
    """The token to connect with, and a function that makes one for a channel."""
    from gateway.tokens import connection_token, subscription_token

    if auth.hmac_secret is None:
        if user is not None:
            raise ConfigError("--user needs auth.hmac_secret in the settings, to make a token with")
        return "", _nothing
    secret, user = auth.hmac_secret.get_secret_value(), user or ""
    claims: dict[str, Any] = {
        "expires_in": TOKEN_LIFE,
        "expire_at": 0,
        "audience": auth.audience,
        "issuer": auth.issuer,
    }
    return connection_token(secret, user, **claims), partial(subscription_token, secret, user, **claims)


def _nothing(channel: str) -> str:
    return ""
