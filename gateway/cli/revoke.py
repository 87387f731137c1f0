"""`gateway revoke`, `gateway kick`"""

import click

from gateway.cli.http_api import Api, with_api


@click.command(short_help="Revoke tokens of a user, or one token.")
@click.option("--user", metavar="ID", help="Revoke all tokens that this user has so far.")
@click.option("--jti", metavar="ID", help="Revoke the token with this jti claim.")
@click.option(
    "--expire-at", metavar="UNIX_SECONDS", type=int, default=0, help="When the last of these tokens has expired."
)
@with_api
def revoke(api: Api, user: str | None, jti: str | None, expire_at: int) -> None:
    """Revoke tokens: connections that use them are closed, and every node refuses them.

    Tokens that a user gets later are accepted again. A revocation is kept for ever, unless --expire-at says when the
    tokens have expired by themselves.

    \b
    gateway revoke --user 42
    """
    if bool(user) == bool(jti):
        raise click.UsageError("give one of --user and --jti")
    meant = {"user": user} if user else {"jti": jti}
    result = api.call("revoke", {**meant, "expire_at": expire_at} if expire_at else meant)
    done = f"revoked the tokens of user {user}" if user else f"revoked the token {jti}"
    click.echo(f"{done}, {result.get('num_clients', 0)} connections closed")


@click.command(short_help="Remove a user from a channel.")
@click.argument("user")
@click.argument("channel")
@click.option(
    "--expire-at", metavar="UNIX_SECONDS", type=int, default=0, help="When the last token for the channel has expired."
)
@with_api
def kick(api: Api, user: str, channel: str, expire_at: int) -> None:
    """Remove USER from CHANNEL: the subscriptions end, and no token that the user has so far opens it again.

    The connections and their other channels stay. Tokens that the user gets later are accepted again. A kick is kept
    for ever, unless --expire-at says when the tokens have expired by themselves. Put names with $ or # in single
    quotes.

    \b
    gateway kick 42 '$chat:room'
    """
    meant = {"user": user, "channel": channel}
    result = api.call("kick", {**meant, "expire_at": expire_at} if expire_at else meant)
    click.echo(f"kicked user {user} from {channel}, {result.get('num_clients', 0)} subscriptions ended")
