"""Who may do what on a channel, for every entrance and protocol."""

from collections.abc import Collection
from typing import NamedTuple

from gateway.channels import ChannelSpec

TOKEN = "a subscription token for the channel"  # noqa: S105 - names it for the reader of a log
SUBSCRIPTION = "a subscription to the channel"
LISTED = "the user's id after # in the channel's name"


class Verdict(NamedTuple):
    """Whether something is allowed, and why."""

    allowed: bool
    # A short sentence that names the rule that decided.
    rule: str
    # The setting (or token, or subscription) that would allow it; empty when allowed.
    setting: str


def is_protected(spec: ChannelSpec) -> bool:
    """Whether the name itself says who may enter (`$`, `#`): no hook decides that."""
    return spec.private or spec.users is not None


def may_subscribe(spec: ChannelSpec, user: str, granted: bool) -> Verdict:
    """Whether `user` (empty: anonymous) may subscribe; `granted` when a subscription token or the server says so.

    The first rule that applies decides: a grant, `$`, `#`, allow_subscribe (the order of the Centrifuge protocol). So a
    grant opens every channel, and allow_subscribe never opens channels with `$` or `#`.
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


def may_publish(spec: ChannelSpec, user: str, subscribed: bool, *, is_asked: bool = False) -> Verdict:
    """Whether `user` (empty: anonymous) may publish; `subscribed` when its connection is subscribed to the channel.

    With `$` the client also has to be subscribed, and with `#` the user has to be listed. `is_asked`: a hook decides
    the rest.
    """
    if spec.private and not subscribed:
        return Verdict(False, "only subscribers publish into channels that start with $", SUBSCRIPTION)
    if spec.users is not None and user not in spec.users:
        return Verdict(False, "only users listed after # publish into the channel", LISTED)
    if is_asked:
        return Verdict(True, "a hook decides", "")
    return _allowed(spec, user, subscribed, spec.options.allow_publish, "allow_publish", "publish")


def may_read_history(spec: ChannelSpec, user: str, subscribed: bool) -> Verdict:
    """Whether `user` (empty: anonymous) may read the history, if there is one; `subscribed` as for publishing.

    With `$` or `#` the client also has to be subscribed.
    """
    if (spec.private or spec.users is not None) and not subscribed:
        return Verdict(False, "only subscribers read the history of channels with $ or #", SUBSCRIPTION)
    return _allowed(spec, user, subscribed, spec.options.allow_history, "allow_history", "read the history")


def may_read_presence(spec: ChannelSpec, user: str, subscribed: bool) -> Verdict:
    """Whether `user` (empty: anonymous) may read who is in the channel; as for the history."""
    if (spec.private or spec.users is not None) and not subscribed:
        return Verdict(False, "only subscribers read the presence of channels with $ or #", SUBSCRIPTION)
    return _allowed(spec, user, subscribed, spec.options.allow_presence, "allow_presence", "read the presence")


def no_presence(spec: ChannelSpec) -> Verdict:
    """For a channel that has no presence."""
    return Verdict(False, "the channel has no presence", _option(spec, "presence"))


def no_history(spec: ChannelSpec) -> Verdict:
    """For a channel that has no history."""
    if spec.latest is not None:
        return Verdict(False, "with delivery = 'latest' subscribers get the newest values, and there is no history", "")
    return Verdict(False, "the channel has no history", _option(spec, "history_size"))


def _allowed(spec: ChannelSpec, user: str, subscribed: bool, allow: Collection[str], option: str, what: str) -> Verdict:
    if subscribed and "subscriber" in allow:
        return Verdict(True, f"subscribers may {what}", "")
    if user:
        if "client" in allow:
            return Verdict(True, f"clients with a user id may {what}", "")
        return Verdict(False, f"clients may not {what}", _option(spec, option))
    if "anonymous" in allow:
        return Verdict(True, f"anonymous clients may {what}", "")
    return Verdict(False, f"anonymous clients may not {what}", _option(spec, option))


def _limited(spec: ChannelSpec, user: str) -> Verdict:
    assert spec.users is not None
    if user not in spec.users:
        return Verdict(False, "the user is not among those listed after #", TOKEN)
    if not spec.options.user_limited:
        return Verdict(False, "being listed after # is not enough here", _option(spec, "user_limited"))
    return Verdict(True, "the user is listed after #", "")


def _option(spec: ChannelSpec, option: str) -> str:
    return f"namespaces.{spec.namespace}.{option}" if spec.namespace else f"channels.{option}"
