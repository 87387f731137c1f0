"""`gateway revoke`"""

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
