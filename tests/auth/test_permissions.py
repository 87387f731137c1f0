"""Every protected kind of channel x identity x operation: what the table says, and nothing else, is allowed."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.permissions import Verdict, may_publish, may_read_history, may_read_presence, may_subscribe
from gateway.channels import Channels
from gateway.config.settings import NamespaceSettings, ServerSettings, Who
from gateway.errors import RequestError
from gateway.messages import DEFAULT_APP

SETTINGS = ServerSettings(
    namespaces={
        "closed": NamespaceSettings(),
        "clients": NamespaceSettings(allow_subscribe=("client",), allow_publish=("client",)),
        "anonymous": NamespaceSettings(allow_subscribe=("anonymous",), allow_publish=("anonymous",)),
        "subscribers": NamespaceSettings(allow_publish=("subscriber",)),
        "users": NamespaceSettings(user_limited=True, allow_publish=("client",)),
        "open": NamespaceSettings(
            user_limited=True,
            allow_subscribe=("client", "anonymous"),
            allow_publish=("client", "subscriber", "anonymous"),
        ),
    }
)
CONFIGURED = Channels(SETTINGS)
NO_AUTH = Channels(SETTINGS.model_copy(update={"no_auth": True}))
DEMO = Channels(SETTINGS.model_copy(update={"demo": True}))

# What somebody may do: s subscribe, g subscribe with a grant, p publish without a subscription, P publish with one.
OPERATIONS = "sgpP"
IDENTITIES = {"anonymous": "", "listed": "17", "other": "99"}

# Channel -> what an anonymous client, the user 17 and the user 99 may do.
MATRIX = {
    "room": ("g", "g", "g"),
    "$room": ("g", "g", "g"),
    "room#17": ("g", "g", "g"),
    "closed:room": ("g", "g", "g"),
    "$closed:room": ("g", "g", "g"),
    "closed:room#17": ("g", "g", "g"),
    "clients:room": ("g", "sgpP", "sgpP"),
    "$clients:room": ("g", "gP", "gP"),
    "clients:room#17": ("g", "gpP", "g"),
    "$clients:room#17": ("g", "gP", "g"),
    "anonymous:room": ("sgpP", "g", "g"),
    "$anonymous:room": ("gP", "g", "g"),
    "anonymous:room#17": ("g", "g", "g"),
    "anonymous:room#": ("g", "g", "g"),
    "subscribers:room": ("gP", "gP", "gP"),
    "$subscribers:room": ("gP", "gP", "gP"),
    "subscribers:room#17": ("g", "gP", "g"),
    "users:room": ("g", "gpP", "gpP"),
    "users:room#17": ("g", "sgpP", "g"),
    "users:room#17,42": ("g", "sgpP", "g"),
    "users:room#99#17": ("g", "sgpP", "g"),
    "users:#17": ("g", "sgpP", "g"),
    "$users:room#17": ("g", "gP", "g"),
    "open:room": ("sgpP", "sgpP", "sgpP"),
    "$open:room": ("gP", "gP", "gP"),
    "open:room#17": ("g", "sgpP", "g"),
    "open:room#": ("g", "g", "g"),
    "open:room#,": ("g", "g", "g"),
    "$open:room#17": ("g", "gP", "g"),
}

# What --no-auth changes, and --demo of it what is in the namespace demo.
OPENED = {
    "room": ("sgpP", "sgpP", "sgpP"),
    "$room": ("gP", "gP", "gP"),
    "room#17": ("g", "gpP", "g"),
    "#17": ("g", "gpP", "g"),
    "$room#17": ("g", "gP", "g"),
    "demo:room": ("sgpP", "sgpP", "sgpP"),
    "$demo:room": ("gP", "gP", "gP"),
    "demo:room#17": ("g", "gpP", "g"),
}


def verdicts(channels: Channels, name: str, user: str) -> dict[str, Verdict]:
    spec = channels.resolve(DEFAULT_APP, name)
    return {
        "s": may_subscribe(spec, user, granted=False),
        "g": may_subscribe(spec, user, granted=True),
        "p": may_publish(spec, user, subscribed=False),
        "P": may_publish(spec, user, subscribed=True),
    }


def allowed(channels: Channels, name: str) -> tuple[str, ...]:
    found = (verdicts(channels, name, user) for user in IDENTITIES.values())
    return tuple("".join(op for op, verdict in each.items() if verdict.allowed) for each in found)


@pytest.mark.parametrize("name", MATRIX)
def test_the_matrix_of_configured_channels(name: str) -> None:
    """Without --no-auth and --demo, the table holds."""
    assert allowed(CONFIGURED, name) == MATRIX[name]


@pytest.mark.parametrize("name", sorted(MATRIX.keys() | OPENED.keys()))
def test_the_matrix_of_no_auth(name: str) -> None:
    """--no-auth opens the default namespace and demo, and there `$` and `#` are as closed as ever."""
    assert allowed(NO_AUTH, name) == OPENED.get(name, MATRIX.get(name))


@pytest.mark.parametrize("name", sorted(MATRIX.keys() | {name for name in OPENED if "demo:" in name}))
def test_the_matrix_of_demo(name: str) -> None:
    """--demo opens demo and nothing else."""
    assert allowed(DEMO, name) == (OPENED[name] if "demo:" in name else MATRIX[name])


WHO = st.lists(st.sampled_from(["client", "subscriber", "anonymous"]), unique=True)


@given(
    body=st.text("$#:,na17", max_size=8),
    user=st.sampled_from(["", "1", "17", "7", "a", "n"]),
    allow=WHO,
    user_limited=st.booleans(),
)
@settings(derandomize=True, max_examples=300)
def test_protection_cannot_be_opened_by_options(body: str, user: str, allow: list[Who], user_limited: bool) -> None:
    """Whatever the options: `$` needs a grant, and `#` a grant or being listed, to subscribe and to publish."""
    options = NamespaceSettings(
        allow_subscribe=tuple(who for who in allow if who != "subscriber"),
        allow_publish=tuple(allow),
        user_limited=user_limited,
    )
    channels = Channels(ServerSettings(channels=options, namespaces={"n": options}))
    for name in (f"${body}", f"{body}#{body}", f"{body}#"):
        try:
            found = verdicts(channels, name, user)
        except RequestError:
            continue
        is_listed = "#" in name and user != "" and user in name.rpartition("#")[2].split(",")
        if name.startswith("$"):
            assert not found["s"].allowed
            assert not found["p"].allowed
        if "#" in name and not is_listed:
            assert not found["s"].allowed
            assert not found["p"].allowed
            assert not found["P"].allowed
        if "#" in name and not user_limited:
            assert not found["s"].allowed


# What the log says


@pytest.mark.parametrize("name", sorted(MATRIX))
@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_refusal_names_what_would_allow_it(name: str, identity: str) -> None:
    """A verdict has a rule; a refusal also has a setting, and an allowance has none."""
    for verdict in verdicts(CONFIGURED, name, IDENTITIES[identity]).values():
        assert verdict.rule
        assert bool(verdict.setting) is not verdict.allowed


@pytest.mark.parametrize(
    ("name", "user", "operation", "rule", "setting"),
    [
        ("room", "17", "s", "clients need a subscription token here", "channels.allow_subscribe"),
        ("room", "", "s", "anonymous clients may not subscribe", "channels.allow_subscribe"),
        ("closed:room", "17", "s", "clients need a subscription token here", "namespaces.closed.allow_subscribe"),
        ("room", "17", "p", "clients may not publish", "channels.allow_publish"),
        ("closed:room", "", "p", "anonymous clients may not publish", "namespaces.closed.allow_publish"),
        ("$open:room", "17", "s", "channels that start with $ need a subscription token", "a subscription token"),
        ("$open:room", "17", "p", "only subscribers publish into channels that start with $", "a subscription to"),
        ("open:room#17", "99", "s", "the user is not among those listed after #", "a subscription token"),
        ("clients:room#17", "17", "s", "being listed after # is not enough here", "namespaces.clients.user_limited"),
        ("open:room#17", "99", "p", "only users listed after # publish into the channel", "the user's id after #"),
    ],
)
def test_the_rule_and_the_setting(name: str, user: str, operation: str, rule: str, setting: str) -> None:
    """They name the rule that decided, and the setting that would have decided otherwise."""
    verdict = verdicts(CONFIGURED, name, user)[operation]
    assert (verdict.allowed, verdict.rule) == (False, rule)
    assert verdict.setting.startswith(setting)


def test_following_the_setting_allows_it() -> None:
    """The setting that a refusal names is the one that helps."""
    for option, operation in (("allow_subscribe", "s"), ("allow_publish", "p")):
        for user, who in (("17", "client"), ("", "anonymous")):
            assert verdicts(CONFIGURED, "closed:room", user)[operation].setting == f"namespaces.closed.{option}"
            options = NamespaceSettings.model_validate({option: [who]})
            changed = Channels(ServerSettings(namespaces={"closed": options}))
            assert verdicts(changed, "closed:room", user)[operation].allowed


# History and presence: channel -> who may read them without a subscription, and with one. o: who has no user id.
READERS = {
    "read:room": ("", "17 99 o"),
    "$read:room": ("", "17 99 o"),
    "read:room#17": ("", "17 99 o"),
    "all:room": ("17 99 o", "17 99 o"),
    "$all:room": ("", "17 99 o"),
    "all:room#17": ("", "17 99 o"),
    "ids:room": ("17 99", "17 99"),
    "$ids:room": ("", "17 99"),
    "nobody:room": ("", ""),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("subscribed", [False, True])
@pytest.mark.parametrize("read", [may_read_history, may_read_presence])
def test_who_may_read_what_is_kept(name: str, subscribed: bool, read: Callable[..., Verdict]) -> None:
    """Protection wins over every permission: without a subscription nobody reads of a channel with $ or #."""
    kinds: dict[str, tuple[Who, ...]] = {
        "read": ("subscriber",),
        "all": ("client", "subscriber", "anonymous"),
        "ids": ("client",),
        "nobody": (),
    }
    channels = Channels(
        ServerSettings(
            namespaces={
                kind: NamespaceSettings(delivery="recoverable", presence=True, allow_history=who, allow_presence=who)
                for kind, who in kinds.items()
            }
        )
    )
    allowed = READERS[name][subscribed].split()
    spec = channels.resolve(DEFAULT_APP, name)
    for user in ("17", "99", ""):
        verdict = read(spec, user, subscribed)
        assert verdict.allowed is ((user or "o") in allowed), (user, verdict)
        assert bool(verdict.setting) is not verdict.allowed
