"""`gateway subscribe`"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gateway.cli.options import Sources, with_settings
from gateway.cli.target import target_of, target_of_clients, url_option
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.cli.follower import Tokens
    from gateway.config.settings import AuthSettings


@click.command(short_help="Print what is published to channels as it comes.")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@url_option
@click.option("--token", metavar="TOKEN", help="The connection token of a client, to see what that client gets.")
@click.option("--user", metavar="ID", help="Connect as this user, with tokens made from auth.hmac_secret.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many publications.")
@with_settings()
def subscribe(
    sources: Sources, channels: Sequence[str], url: str | None, token: str | None, user: str | None, count: int | None
) -> None:
    """Print what is published to channels as it comes, one JSON object per line, until Ctrl-C.

    Without --token the command makes itself tokens for all the channels if the settings hold auth.hmac_secret, and
    else connects as an anonymous client.

    \b
    gateway subscribe news '$chat:room'
    """
    from gateway.cli.follower import Follower, GivenToken

    if token is not None and user is not None:
        raise click.UsageError("give one of --token and --user")
    tokens: Tokens
    if url is not None and token is not None:
        target, tokens = target_of(url), GivenToken(token)
    else:
        settings = sources.load()
        target = target_of(url) if url is not None else target_of_clients(settings)
        tokens = GivenToken(token) if token is not None else _own_tokens(settings.auth, user)
    Follower(channels, tokens, click.echo, count).follow(target)


def _own_tokens(auth: "AuthSettings", user: str | None) -> "Tokens":
    from gateway.cli.follower import GivenToken, MintedTokens

    if auth.hmac_secret is not None:
        return MintedTokens(auth.hmac_secret.get_secret_value(), user or "", auth.audience, auth.issuer)
    if user is not None:
        raise ConfigError("--user needs auth.hmac_secret in the settings, to make a token with")
    return GivenToken("")
