"""Who may do what on a channel. Every way in, whatever its protocol, asks here."""

from typing import NamedTuple

from gateway.channels import ChannelSpec

TOKEN = "a subscription token for the channel"  # noqa: S105 - names it for the reader of a log
SUBSCRIPTION = "a subscription to the channel"
LISTED = "the user's id after # in the channel's name"


class Verdict(NamedTuple):
    """Whether something is allowed, and why."""

    allowed: bool
    # A short sentence that names what decided.
    rule: str
    # The setting (or what else) that would allow it; empty when allowed.
    setting: str


def may_subscribe(spec: ChannelSpec, user: str, granted: bool) -> Verdict:
    """Whether `user` (empty: anonymous) may subscribe; `granted` when a subscription token or the server says so.

    The first that applies decides: a grant, `$`, `#`, allow_subscribe (the order of the Centrifuge protocol). So a
    grant opens every channel, and `$` and `#` are never opened by allow_subscribe.
    """
    if granted:
        return Verdict(True, "a grant lets the client in", "")
    if spec.private:
        return Verdict(False, "channels that start with $ need a subscription token", TOKEN)
    if spec.users is not None:
        return _limited(spec, user)
    allow = spec.options.allow_subscribe
    if user:
        if "client" in allow:
            return Verdict(True, "clients with a user id may subscribe", "")
        return Verdict(False, "clients need a subscription token here", _option(spec, "allow_subscribe"))
    if "anonymous" in allow:
        return Verdict(True, "anonymous clients may subscribe", "")
    return Verdict(False, "anonymous clients may not subscribe", _option(spec, "allow_subscribe"))


def may_publish(spec: ChannelSpec, user: str, subscribed: bool) -> Verdict:
    """Whether `user` (empty: anonymous) may publish; `subscribed` when its connection is subscribed to the channel.

    `$` asks for a subscription and `#` for being listed, each in addition to allow_publish.
    """
    if spec.private and not subscribed:
        return Verdict(False, "only subscribers publish into channels that start with $", SUBSCRIPTION)
    if spec.users is not None and user not in spec.users:
        return Verdict(False, "only users listed after # publish into the channel", LISTED)
    allow = spec.options.allow_publish
    if subscribed and "subscriber" in allow:
        return Verdict(True, "subscribers may publish", "")
    if user:
        if "client" in allow:
            return Verdict(True, "clients with a user id may publish", "")
        return Verdict(False, "clients may not publish", _option(spec, "allow_publish"))
    if "anonymous" in allow:
        return Verdict(True, "anonymous clients may publish", "")
    return Verdict(False, "anonymous clients may not publish", _option(spec, "allow_publish"))


def _limited(spec: ChannelSpec, user: str) -> Verdict:
    assert spec.users is not None
    if user not in spec.users:
        return Verdict(False, "the user is not among those listed after #", TOKEN)
    if not spec.options.user_limited:
        return Verdict(False, "being listed after # is not enough here", _option(spec, "user_limited"))
    return Verdict(True, "the user is listed after #", "")


def _option(spec: ChannelSpec, option: str) -> str:
    return f"namespaces.{spec.namespace}.{option}" if spec.namespace else f"channels.{option}"
