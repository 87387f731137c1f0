"""Every way in which an operation on a channel that is refused could be allowed."""

from shlex import quote

from gateway.auth.permissions import Verdict
from gateway.channels import NAME, ChannelSpec

# By operation, in the words of the settings.
_OPTIONS = {
    "subscribe": "allow_subscribe",
    "publish": "allow_publish",
    "history": "allow_history",
    "presence": "allow_presence",
}


def ways(operation: str, spec: ChannelSpec, user: str, verdict: Verdict) -> list[str]:
    """`operation`: connect, subscribe, publish, history or presence, perhaps with " when subscribed". Empty if allowed.

    The first is the one that the log of the gateway names.
    """
    if verdict.allowed:
        return []
    name, _, subscribed = operation.partition(" ")
    if name == "connect":
        return _to_connect(spec, user, verdict)
    if name == "subscribe":
        return _to_subscribe(spec, user)
    return _to_use(name, spec, user, verdict, subscribed=bool(subscribed))


def _to_connect(spec: ChannelSpec, user: str, verdict: Verdict) -> list[str]:
    if verdict.setting != "auth.anonymous":
        return [verdict.setting]
    return [
        f"a connection token (gateway token --user {quote(user) if user else 'ID'})",
        f"at /ws/CHANNEL also {_subscription_token(spec, user)}",
        "auth.anonymous = true",
    ]


def _to_subscribe(spec: ChannelSpec, user: str) -> list[str]:
    found = []
    if not spec.private and spec.users is None:
        found.append(_opened(spec, "allow_subscribe", user))
    if not spec.private and user:
        found += _by_name(spec, user)
    return [
        *found,
        _subscription_token(spec, user),
        "a connection token with this channel in `channels` or `subs`",
        "the backend, with the API method `subscribe`",
    ]


def _subscription_token(spec: ChannelSpec, user: str) -> str:
    command = f"gateway token --user {quote(user) if user else 'ID'} --channel {quote(spec.channel.name)}"
    return f"a subscription token for this channel ({command})"


def _by_name(spec: ChannelSpec, user: str) -> list[str]:
    """To subscribe as one of the users that the name of a channel lists."""
    limited = "" if spec.options.user_limited else f"{_section(spec)}.user_limited = true"
    if spec.users is not None and user in spec.users:
        return [limited]
    name = f"{spec.channel.name.partition('#')[0]}#{user}"
    if set(user) & set(",#") or not NAME.fullmatch(name):
        return []
    return [f"another channel, {name}" + (f", and {limited}" if limited else "")]


def _to_use(name: str, spec: ChannelSpec, user: str, verdict: Verdict, *, subscribed: bool) -> list[str]:
    """To publish, or to read the history or the presence."""
    option = _OPTIONS[name]
    if name == "history" and spec.history is None:
        return [f"{_section(spec)}.delivery = 'recoverable'", *([verdict.setting] if spec.latest is None else [])]
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
