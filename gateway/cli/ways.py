"""Every way in which an operation on a channel that is refused could be allowed."""

from shlex import quote
from typing import NamedTuple

from gateway.auth.permissions import (
    Verdict,
    may_publish,
    may_read_history,
    may_read_presence,
    may_subscribe,
    no_history,
    no_presence,
)
from gateway.channels import NAME, ChannelSpec

# On a channel; " when subscribed" to it.
OPERATIONS = (
    "subscribe",
    *("publish", "publish when subscribed"),
    *("history", "presence", "history when subscribed", "presence when subscribed"),
)
# By operation, in the words of the settings.
_OPTIONS = {
    "subscribe": "allow_subscribe",
    "publish": "allow_publish",
    "history": "allow_history",
    "presence": "allow_presence",
}


class Personal(NamedTuple):
    """Whether users have personal channels (personal.enabled), and whose this channel is then; empty for nobody's."""

    enabled: bool
    owner: str


def verdict_on(operation: str, spec: ChannelSpec, user: str, *, is_asked: bool = False) -> Verdict:
    """Whether `user` (empty: anonymous) may do it, without a subscription token; `operation` is one of OPERATIONS.

    `is_asked`: a hook decides, unless the name of the channel forbids it.
    """
    name, _, when = operation.partition(" ")
    subscribed = bool(when)
    if name == "subscribe":
        return may_subscribe(spec, user, granted=False)
    if name == "publish":
        return may_publish(spec, user, subscribed, is_asked=is_asked)
    if name == "history":
        return may_read_history(spec, user, subscribed) if spec.history is not None else no_history(spec)
    return may_read_presence(spec, user, subscribed) if spec.options.presence else no_presence(spec)


def ways(operation: str, spec: ChannelSpec, user: str, verdict: Verdict, personal: Personal) -> list[str]:
    """`operation`: connect, or one of OPERATIONS. Empty if allowed, or if nothing would allow it.

    The first is a connection token if an anonymous client needs no more than that, otherwise the one that the log of
    the gateway names.
    """
    if verdict.allowed:
        return []
    name, _, subscribed = operation.partition(" ")
    if name == "connect":
        return _to_connect(spec, user, verdict)
    known = [] if user else _by_user_id(operation, spec, personal)
    if name == "subscribe":
        return [*known, *_to_subscribe(spec, user, personal)]
    return [*known, *_to_use(name, spec, user, verdict, subscribed=bool(subscribed))]


def _by_user_id(operation: str, spec: ChannelSpec, personal: Personal) -> list[str]:
    """For an anonymous client, if it would be allowed with a user id."""
    if operation == "subscribe" and personal.enabled and personal.owner:
        able = personal.owner
    else:
        users = ["ID"] if spec.users is None else sorted(spec.users)
        able = next((each for each in users if verdict_on(operation, spec, each).allowed), "")
    return [f"a connection token (gateway token --user {quote(able)})"] if able else []


def _to_connect(spec: ChannelSpec, user: str, verdict: Verdict) -> list[str]:
    if verdict.setting != "auth.anonymous":
        return [verdict.setting]
    return [
        f"a connection token (gateway token --user {quote(user) if user else 'ID'})",
        f"at /ws/CHANNEL and /sse/CHANNEL also {_subscription_token(spec, user)}",
        "auth.anonymous = true",
    ]


def _to_subscribe(spec: ChannelSpec, user: str, personal: Personal) -> list[str]:
    found = []
    if not spec.private and spec.users is None:
        found.append(_opened(spec, "allow_subscribe", user))
    if personal.owner and not personal.enabled and user in ("", personal.owner):
        of_owner = "" if user else f", and a connection token (gateway token --user {quote(personal.owner)})"
        found.append(f"personal.enabled = true{of_owner}")
    if not spec.private and user:
        found += _by_name(spec, user, personal)
    return [
        *found,
        _subscription_token(spec, user),
        "a connection token with this channel in `channels` or `subs`",
        "the backend, with the API method `subscribe`",
    ]


def _subscription_token(spec: ChannelSpec, user: str) -> str:
    command = f"gateway token --user {quote(user) if user else 'ID'} --channel {quote(spec.channel.name)}"
    return f"a subscription token for this channel ({command})"


def _by_name(spec: ChannelSpec, user: str, personal: Personal) -> list[str]:
    """To subscribe as one of the users that the name of a channel lists, or as the owner of a personal channel."""
    limited = "" if spec.options.user_limited else f"{_section(spec)}.user_limited = true"
    if spec.users is not None and user in spec.users:
        return [limited]
    if personal.owner:
        limited = "" if personal.enabled else "personal.enabled = true"
    name = f"{spec.channel.name.partition('#')[0]}#{user}"
    if set(user) & set(",#") or not NAME.fullmatch(name):
        return []
    return [f"another channel, {name}" + (f", and {limited}" if limited else "")]


def _to_use(name: str, spec: ChannelSpec, user: str, verdict: Verdict, *, subscribed: bool) -> list[str]:
    """To publish, or to read the history or the presence."""
    option = _OPTIONS[name]
    if name == "history" and spec.history is None:
        if spec.latest is not None:
            return []
        recoverable = f"{_section(spec)}.delivery = 'recoverable'"
        return [*([recoverable] if spec.options.delivery == "live" else []), verdict.setting]
    if name == "presence" and not spec.options.presence:
        return [f"{verdict.setting} = true"]
    found = [verdict.setting]
    if verdict.setting == f"{_section(spec)}.{option}":
        found = [_opened(spec, option, user, subscribed=subscribed)]
        if not subscribed and "subscriber" in getattr(spec.options, option):
            found.append("a subscription to the channel")
    methods = {"presence": "the API methods `presence` and `presence_stats`"}
    return [*found, f"the backend, with {methods.get(name, f'the API method `{name}`')}"]


def _opened(spec: ChannelSpec, option: str, user: str, *, subscribed: bool = False) -> str:
    who = ["client" if user else "anonymous", *(["subscriber"] if subscribed else [])]
    return f"{' or '.join(who)} in {_section(spec)}.{option}"


def _section(spec: ChannelSpec) -> str:
    return f"namespaces.{spec.namespace}" if spec.namespace else "channels"
