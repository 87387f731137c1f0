"""Channel names: what they mean, and that no name gets around that."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.channels import REMEMBERED, Channels, ChannelSpec
from gateway.config.settings import NamespaceSettings, PersonalSettings, ServerSettings
from gateway.errors import BAD_REQUEST, UNKNOWN_CHANNEL, ConfigError, RequestError
from gateway.messages import DEFAULT_APP, Channel

APP = DEFAULT_APP
DEFAULT = NamespaceSettings(allow_subscribe=("client",))
CHAT = NamespaceSettings(allow_publish=("subscriber",), user_limited=True)
EVERYBODY = ("client", "anonymous")

CHANNELS = Channels(
    ServerSettings(channels=DEFAULT, namespaces={"chat": CHAT}, personal=PersonalSettings(enabled=True))
)

# Any text at all, and text made of what has a meaning in names.
NAMES = st.text(max_size=300) | st.text("$#:,chat ab1\x7f\n\0é", max_size=20) | st.text(st.characters(), max_size=20)


def outcome(channels: Channels, app: str, name: str) -> ChannelSpec | RequestError:
    try:
        return channels.resolve(app, name)
    except RequestError as error:
        return error


@pytest.mark.parametrize(
    ("name", "namespace", "private", "users"),
    [
        ("room", "", False, None),
        ("chat:room", "chat", False, None),
        ("chat:room:1", "chat", False, None),
        ("chat:", "chat", False, None),
        ("$room", "", True, None),
        ("$chat:room", "chat", True, None),
        ("chat:$room", "chat", False, None),
        ("$$chat", "", True, None),
        ("$", "", True, None),
        ("room$", "", False, None),
        ("room#17", "", False, {"17"}),
        ("room#17,42", "", False, {"17", "42"}),
        ("chat:room#17,42", "chat", False, {"17", "42"}),
        ("$chat:room#17", "chat", True, {"17"}),
        ("room#17#42", "", False, {"42"}),
        ("#17", "", False, {"17"}),
        ("chat:#17", "chat", False, {"17"}),
        ("room#", "", False, set()),
        ("room#,", "", False, set()),
        ("room#17,", "", False, {"17"}),
        ("room#auth0:17", "", False, {"auth0:17"}),
        ("chat:room#auth0:17", "chat", False, {"auth0:17"}),
        ("#chat:17", "", False, {"chat:17"}),
        ("#a:b#17", "", False, {"17"}),
        ("!~", "", False, None),
        ('a/b?c=d&e%20{x}*[y]"\\', "", False, None),
        ("x" * 255, "", False, None),
    ],
)
def test_a_name_means(name: str, namespace: str, private: bool, users: set[str] | None) -> None:
    """The namespace is what stands before the first colon, `$` counts at the start, `#` where it stands last."""
    spec = CHANNELS.resolve(APP, name)
    assert spec.channel == Channel(APP, name)
    assert spec.namespace == namespace
    assert spec.options == (CHAT if namespace else DEFAULT)
    assert spec.private is private
    assert spec.users == users


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 256,
        "a b",
        "a\tb",
        "a\nb",
        "room\n",
        "a\0",
        "\x7f",
        "\x1b[31m",
        "é",
        "room\u202e",
        "\ud800",
        "字",
        "a\u00a0b",
    ],
)
def test_names_that_are_refused(name: str) -> None:
    """Empty and long names, white space, control characters, DEL and whatever is not ASCII are bad requests."""
    with pytest.raises(RequestError) as caught:
        CHANNELS.resolve(APP, name)
    assert caught.value.error == BAD_REQUEST
    assert "printable ASCII" in caught.value.detail


@pytest.mark.parametrize("name", ["other:room", "$other:room", ":room", "$:room", "Chat:room", "chatx:room"])
def test_a_namespace_that_is_not_configured_is_unknown(name: str) -> None:
    """Nobody gets the options of another namespace by misspelling it; the answer names the missing setting."""
    with pytest.raises(RequestError) as caught:
        CHANNELS.resolve(APP, name)
    assert caught.value.error == UNKNOWN_CHANNEL
    assert f"namespaces.{name.lstrip('$').partition(':')[0]}" in caught.value.detail


@given(app=st.text(max_size=5), name=NAMES)
@settings(derandomize=True, max_examples=500)
def test_resolve_answers_or_refuses(app: str, name: str) -> None:
    """Whatever the name, the outcome is a spec of exactly this channel, or a RequestError."""
    spec = outcome(CHANNELS, app, name)
    if isinstance(spec, RequestError):
        assert spec.error in (BAD_REQUEST, UNKNOWN_CHANNEL)
        return
    assert spec.channel == Channel(app, name)
    assert spec.private == name.startswith("$")
    assert (spec.users is not None) == ("#" in name)
    assert "" not in (spec.users or ())
    assert spec.channel.name.isascii()
    assert spec.channel.name.isprintable()


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a", "a:", "default"]), st.text("$#:,ab", min_size=1, max_size=4)), min_size=2
    )
)
@settings(derandomize=True)
def test_no_two_channels_mix(pairs: list[tuple[str, str]]) -> None:
    """Different apps or names are different channels, in whatever order they are asked for."""
    channels = Channels(ServerSettings(namespaces={"a": CHAT, "b": CHAT}))
    outcomes = {(app, name): outcome(channels, app, name) for app, name in pairs}
    found = {key: spec.channel for key, spec in outcomes.items() if not isinstance(spec, RequestError)}
    assert len(set(found.values())) == len(found)
    assert all(channel == key for key, channel in found.items())


def test_names_chosen_by_clients_do_not_fill_the_memory() -> None:
    """What is remembered of names is bounded, and a name seen again is not worked out again."""
    channels = Channels(ServerSettings())
    first = channels.resolve(APP, "first")
    assert channels.resolve(APP, "first") is first
    for number in range(REMEMBERED):
        channels.resolve(APP, f"room{number}")
    assert channels.resolve(APP, "first") is not first
    assert channels.resolve(APP, "first") == first


# Personal channels


@pytest.mark.parametrize(
    ("namespace", "user", "name"),
    [
        ("", "42", "#42"),
        ("chat", "42", "chat:#42"),
        ("", "auth0|42", "#auth0|42"),
        ("", "eu:42", "#eu:42"),
        ("chat", "eu:42", "chat:#eu:42"),
        ("", "$42", "#$42"),
        ("", "x" * 254, "#" + "x" * 254),
    ],
)
def test_the_personal_channel_of_a_user(namespace: str, user: str, name: str) -> None:
    """It is a user-limited channel with this one user."""
    personal = PersonalSettings(enabled=True, namespace=namespace)
    channels = Channels(ServerSettings(namespaces={"chat": CHAT}, personal=personal))
    assert channels.personal(APP, user) == Channel(APP, name)
    spec = channels.resolve(APP, name)
    assert (spec.namespace, spec.users) == (namespace, frozenset({user}))


@pytest.mark.parametrize("user", ["", "1,2", "1#2", "#", ",", "a b", "é", "a\n", "\ud800", "x" * 255])
def test_users_without_a_personal_channel(user: str) -> None:
    """Anonymous clients have none, nor have ids that a name cannot hold or that would stand for other users."""
    assert CHANNELS.personal(APP, user) is None


def test_personal_channels_are_off_by_default() -> None:
    """Nobody is subscribed to anything unless it is switched on."""
    assert Channels(ServerSettings()).personal(APP, "42") is None


@given(user=st.text(max_size=260) | st.text("$#:,a", max_size=4))
@settings(derandomize=True)
def test_a_personal_channel_is_of_one_user_only(user: str) -> None:
    """Whatever the id, the channel is valid and lists exactly that user."""
    channel = CHANNELS.personal(APP, user)
    if channel is not None:
        assert CHANNELS.resolve(APP, channel.name).users == frozenset({user})


@pytest.mark.parametrize(
    ("socketio", "setting"),
    [
        ({"everyone": "gone:a"}, "socketio.everyone: 'gone:a'"),
        ({"own": "gone:"}, "socketio.own: 'gone:0"),
        ({"events": {"message": "gone:a"}}, "socketio.events.message: 'gone:a'"),
        ({"namespaces": {"/admin": {"everyone": "gone:a"}}}, "socketio.namespaces./admin.everyone: 'gone:a'"),
    ],
)
def test_channels_of_the_settings_have_to_exist(socketio: dict[str, Any], setting: str) -> None:
    """Otherwise every client of Socket.IO would be refused."""
    with pytest.raises(ConfigError, match=re.escape(setting)):
        Channels(ServerSettings.model_validate({"socketio": socketio, "namespaces": {"there": {}}}))


def test_a_personal_namespace_has_to_exist() -> None:
    """A misspelt namespace stops the start, with the setting and what there is."""
    personal = PersonalSettings(enabled=True, namespace="chta")
    with pytest.raises(ConfigError, match=r"personal\.namespace: 'chta' .*\(chat\)"):
        Channels(ServerSettings(namespaces={"chat": CHAT}, personal=personal))
    with pytest.raises(ConfigError, match="there are none"):
        Channels(ServerSettings(personal=personal))


# --no-auth and --demo


def test_no_auth_opens_what_has_no_namespace_and_demo() -> None:
    """Other namespaces stay as configured; the demo namespace exists without being configured."""
    channels = Channels(ServerSettings(no_auth=True, channels=DEFAULT, namespaces={"chat": CHAT}))
    for name in ("room", "demo:room"):
        options = channels.resolve(APP, name).options
        assert (options.allow_subscribe, options.allow_publish) == (EVERYBODY, EVERYBODY)
    assert channels.resolve(APP, "chat:room").options == CHAT
    assert channels.resolve(APP, "$demo:room").private
    assert channels.resolve(APP, "demo:room#17").users == frozenset({"17"})


def test_demo_opens_demo_only() -> None:
    """The namespace of the demo page, with its other options as configured."""
    configured = NamespaceSettings(announce_gaps=False)
    channels = Channels(ServerSettings(demo=True, channels=DEFAULT, namespaces={"demo": configured}))
    demo = channels.resolve(APP, "demo:room").options
    assert (demo.allow_subscribe, demo.allow_publish, demo.announce_gaps) == (EVERYBODY, EVERYBODY, False)
    assert channels.resolve(APP, "room").options == DEFAULT


def test_without_them_there_is_no_demo_namespace() -> None:
    """Nothing is open by default."""
    channels = Channels(ServerSettings())
    assert channels.resolve(APP, "room").options == NamespaceSettings()
    with pytest.raises(RequestError):
        channels.resolve(APP, "demo:room")


def test_rules_can_be_those_of_others() -> None:
    """From one moment to the next, for names that were asked for before too."""
    channels = Channels(ServerSettings(namespaces={"chat": CHAT}))
    assert channels.resolve(APP, "chat:a").options == CHAT
    assert channels.personal(APP, "42") is None
    other = Channels(
        ServerSettings(
            channels=DEFAULT, namespaces={"news": CHAT}, personal=PersonalSettings(enabled=True, namespace="news")
        )
    )
    channels.adopt(other)
    assert isinstance(outcome(channels, APP, "chat:a"), RequestError)
    assert channels.resolve(APP, "a").options == DEFAULT
    assert channels.resolve(APP, "news:a").options == CHAT
    assert channels.personal(APP, "42") == Channel(APP, "news:#42")
