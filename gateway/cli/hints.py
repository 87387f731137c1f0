"""The next step for a user whose command was refused, or reached no gateway."""

import ssl
from collections.abc import Iterator
from shlex import quote

from gateway.config.target import Target
from gateway.errors import (
    BAD_COMMAND,
    BAD_REQUEST,
    INTERNAL,
    INVALID_TOKEN,
    PERMISSION_DENIED,
    TOKEN_EXPIRED,
    UNKNOWN_CHANNEL,
)

ANOTHER_URL = "Is the gateway running there? --url or GATEWAY_URL names another one."
TEMPORARY = "This is temporary: /health/ready, or the log of the node, tells why."
# `explain` judges by the settings that it is given, and a node may have been opened by its flags alone.
WITH_FLAGS = "with the --config, --no-auth or --demo that the node was started with"
MAKE_TOKEN = "`gateway token --user ID` makes one from auth.hmac_secret"  # noqa: S105 - the name of a command


def of_failure(target: Target, error: BaseException) -> str:
    """Why no connection to the gateway came about, as far as the error tells."""
    reasons = list(_chain(error))
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in reasons):
        return "Its certificate is not trusted here: SSL_CERT_FILE=FILE names the certificates to trust."
    if any(isinstance(each, ssl.SSLError) for each in reasons):
        return f"It does not seem to speak TLS: try --url {target._replace(secure=False).name}"
    # A server closes like this when it leaves unread what it did not understand.
    if any(isinstance(each, (ConnectionResetError, BrokenPipeError)) for each in reasons):
        return of_silence(target)
    return ANOTHER_URL


def of_silence(target: Target) -> str:
    """For a server that did not answer in HTTP."""
    if target.secure or target.socket:
        return "Is it a gateway? --url or GATEWAY_URL names another one."
    return f"Is it a gateway, and does it want TLS? Then: --url {target._replace(secure=True).name}"


def of_path(target: Target) -> str:
    """For a server that has no gateway at this path, perhaps; empty without one."""
    return f"The URL has the path {target.prefix}: does the gateway have it?" if target.prefix else ""


def of_close(code: int, *, token: str, own: bool, channel: str) -> str:
    """For a close code of the gateway; empty if there is nothing to say.

    `token`: the connection token that was sent, empty for none. `own`: it was made from the settings.
    """
    from gateway.auth.token_verifier import is_subscription_token

    if not token:
        wanted = f"This gateway wants a token: give --token, or --user where the settings are; {MAKE_TOKEN}."
        return wanted if code == BAD_COMMAND.code else ""
    if code == INVALID_TOKEN.code and own:
        return "The token was made from auth.hmac_secret in the settings here: does the gateway have the same settings?"
    if code == INVALID_TOKEN.code and is_subscription_token(token):
        return f"It is a subscription token, which opens a channel. To connect takes a connection token: {MAKE_TOKEN}."
    if code == INVALID_TOKEN.code:
        return f"`gateway explain {quote(channel)} --token TOKEN` tells why: on the machine of the node, {WITH_FLAGS}."
    return ""


def of_error(code: int, channel: str | None) -> str:
    """For an error in a reply, to a command for this channel; empty if there is nothing to say."""
    if code == INTERNAL.code:
        return TEMPORARY
    if code == TOKEN_EXPIRED.code:
        return f"Get a fresh token: {MAKE_TOKEN}."
    if channel is not None and code in {each.code for each in (UNKNOWN_CHANNEL, PERMISSION_DENIED, BAD_REQUEST)}:
        return (
            f"`gateway explain {quote(channel)}` tells by which rule, and what would allow it: on the machine of the "
            f"node, {WITH_FLAGS}, and the same --token or --user."
        )
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: libraries wrap those of the standard library."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
