"""What may help where a server refused something."""

import errno
import os
import re
from collections.abc import Iterable

from gateway_loadtest.planning.plan import OVER_HTTP, Plan

_REFUSED = re.compile(r"\b(connect|subscribe|publish)\b.*?\berror (\d+)\b")
# As the clients count it: the target, and the reason in the words of the system.
_CONNECT = re.compile(r"connect to (\S+): (.+)", re.DOTALL)
_NO_SUCH_HOST = "the host of {target} is not known: --target names another one"
_CAUSES = {
    os.strerror(errno.ECONNREFUSED): "nothing listens at {target}: is the server running? --target names another one",
    # Of Linux and of macOS.
    "Name or service not known": _NO_SUCH_HOST,
    "nodename nor servname provided, or not known": _NO_SUCH_HOST,
}
_CLOSED = re.compile(r"\bclosed with (\d+)\b")

# Codes of the Centrifuge protocol.
UNAUTHORIZED, UNKNOWN_CHANNEL, PERMISSION_DENIED, TOKEN_EXPIRED, TOO_MANY_REQUESTS = 101, 102, 103, 109, 111
INVALID_TOKEN, BAD_COMMAND = 3500, 3501


def causes_of(errors: Iterable[str]) -> list[str]:
    """Why targets could not be reached, of a run in which not everybody connected; one sentence each."""
    found: dict[str, None] = {}
    for error in errors:
        failed = _CONNECT.fullmatch(error)
        if failed is not None:
            found[_CAUSES.get(failed[2], "{target}: {reason}").format(target=failed[1], reason=failed[2])] = None
    return list(found)


def hints_for(plan: Plan, errors: Iterable[str]) -> list[str]:
    """One sentence for each kind of refusal among the errors of a run."""
    if plan.protocol not in ("centrifuge", *OVER_HTTP):
        return []
    found: dict[str, None] = {}
    for error in errors:
        refused, closed = _REFUSED.search(error), _CLOSED.search(error)
        hint = ""
        if refused is not None:
            hint = _of_refusal(plan, refused[1], int(refused[2]))
        elif closed is not None:
            hint = _of_close(plan, int(closed[1]))
        if hint:
            found[hint] = None
    return list(found)


def _of_close(plan: Plan, code: int) -> str:
    # The second is how clients without a token are closed.
    wants_token = code == INVALID_TOKEN or (code == BAD_COMMAND and not plan.token_secret)
    return _of_token(plan) if wants_token else ""


def _of_refusal(plan: Plan, command: str, code: int) -> str:
    if code == UNKNOWN_CHANNEL:
        namespace, colon, _ = plan.prefix.lstrip("$").partition(":")
        lacks = f"namespace {namespace!r}: configure it" if colon else f"channel like {plan.channel(0)!r}: allow it"
        return f"the server has no {lacks}, or choose another prefix (--prefix), of channels that clients may use"
    if code == PERMISSION_DENIED:
        tokens = (
            ""
            if plan.token_secret
            else ", or set LOADTEST_TOKEN_SECRET to send tokens if it allows clients with a user id"
        )
        return (
            f"the server does not let these clients {command} in {plan.channel(0)!r}: the prefix (--prefix) must name "
            f"channels that clients may use. Choose another, allow it there (of the gateway: allow_{command}){tokens}"
        )
    if code == TOO_MANY_REQUESTS:
        return (
            "the server limits how much a client may do: use a lower --rate, or raise the limit (of the gateway: "
            "limits.publishes_per_second, 0 for none)"
        )
    return _of_token(plan) if code in (UNAUTHORIZED, TOKEN_EXPIRED) else ""


def _of_token(plan: Plan) -> str:
    if plan.token_secret:
        return (
            "the server does not accept the tokens: LOADTEST_TOKEN_SECRET has to be the secret that it checks them with"
        )
    return "no token was sent: set LOADTEST_TOKEN_SECRET to the secret that the server checks tokens with"
