"""`gateway revoke`"""

import click

from gateway.cli.http_api import Api, with_api


@click.command(short_help="Revoke tokens of a user, or one token.")
@click.option("--user", metavar="ID", help="Revoke all tokens this user has by now.")
@click.option("--jti", metavar="ID", help="Revoke the token with this jti claim.")
@with_api
def revoke(api: Api, user: str | None, jti: str | None) -> None:
    """Revoke tokens: connections that live on them close, and every node refuses them until they expire.

    Tokens that a user gets later are accepted again.
    """
    if bool(user) == bool(jti):
        raise click.UsageError("give one of --user and --jti")
    api.call("revoke", {"user": user} if user else {"jti": jti})
    click.echo(f"revoked the tokens of user {user}" if user else f"revoked the token {jti}")
