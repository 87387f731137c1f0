"""`gateway token`"""

import re
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import channel_names
from gateway.cli.options import Sources, with_settings
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.settings import AuthSettings

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd]?)")


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """A duration in seconds; None for "never"."""
    if value == "never":
        return None
    match = _DURATION.fullmatch(value)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is not a duration: expected seconds, 90s, 15m, 24h, 7d or never")
    return int(match[1]) * _UNITS[match[2]]


@click.command(short_help="Make a token for a client.")
@click.option("--user", required=True, metavar="ID", help="Id of the user; '' for an anonymous client.")
@click.option("--channel", metavar="NAME", help="Make a subscription token that lets the user into this channel.")
@click.option(
    "--expires-in",
    callback=_seconds,
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How long it is accepted: seconds, 90s, 15m, 24h, 7d or never.",
)
@click.option(
    "--claims",
    metavar="JSON",
    default="{}",
    help='More claims as a JSON object, for example \'{"info": {"name": "Ada"}, "channels": ["news"]}\'.',
)
@click.option("--secret", metavar="SECRET", help="The secret to sign with. [default: auth.hmac_secret of the settings]")
@with_settings()
def token(
    sources: Sources, user: str, channel: str | None, expires_in: int | None, claims: str, secret: str | None
) -> None:
    """Print a token for a client, signed with the secret of the gateway (HS256).

    Without --channel it is a connection token, which says who the client is. Backends make tokens with gateway.tokens,
    or with any JWT library.

    \b
    gateway token --user 42
    gateway token --user 42 --channel '$chat:room' --expires-in 15m
    """
    from gateway.tokens import connection_token, subscription_token

    settings = sources.load()
    auth = settings.auth
    claimed = _claims(claims, channel)
    given: dict[str, Any] = {"audience": auth.audience, "issuer": auth.issuer, **claimed}
    for name in [channel] if channel is not None else [*claimed.get("channels", ()), *claimed.get("subs", ())]:
        channel_names.require(name)
        # Another secret is that of a gateway with other settings.
        if secret is None:
            channel_names.warn_of_namespace(name, settings)
    key = _given(secret) if secret is not None else _configured(auth)
    if channel is None:
        click.echo(connection_token(key, user, expires_in=expires_in, **given))
    else:
        click.echo(subscription_token(key, user, channel, expires_in=expires_in, **given))


def _given(secret: str) -> str:
    from gateway.config.checks import weakness

    if problem := weakness(secret):
        raise ConfigError(f"--secret: {problem}")
    return secret


def _configured(auth: "AuthSettings") -> str:
    if auth.hmac_secret is None:
        raise ConfigError(
            "no secret to sign with: set auth.hmac_secret (GATEWAY_AUTH__HMAC_SECRET), or give --secret. "
            "With a public key or a key set, only the owner of the private key can sign."
        )
    return auth.hmac_secret.get_secret_value()


_NAMES = {"aud": "audience", "iss": "issuer"}
_CONNECTION = ("info", "channels", "subs", "expire_at", "jti", "aud", "iss")
_SUBSCRIPTION = ("info", "client", "expire_at", "jti", "aud", "iss")


def _claims(text: str, channel: str | None) -> dict[str, Any]:
    """The further claims, without those that are null, under the names that `gateway.tokens` has for them."""
    import msgspec

    from gateway.auth.token_verifier import CLAIMS

    allowed = _CONNECTION if channel is None else _SUBSCRIPTION
    try:
        claims = msgspec.json.decode(text, type=dict[str, Any])
        CLAIMS.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise click.BadParameter(f"not a JSON object of claims ({error})", param_hint="--claims") from error
    if not set(claims) <= set(allowed):
        raise click.BadParameter(f"expected some of: {', '.join(allowed)}", param_hint="--claims")
    return {_NAMES.get(name, name): value for name, value in claims.items() if value is not None}
