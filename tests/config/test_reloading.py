"""What a reload may change, and what nodes compare."""

from typing import Any

import pytest

from gateway.config.reloading import Reloads, changes, digests
from gateway.config.settings import ServerSettings

SECRET = "s" * 32


def settings_of(**sections: Any) -> ServerSettings:
    return ServerSettings.model_validate(sections)


def reloaded(old: ServerSettings, new: ServerSettings) -> tuple[ServerSettings, list[str], list[str]]:
    """What is in force afterwards, what of it has changed, and what waits for a restart."""
    merged = Reloads(old).merged(new)
    return merged, list(changes(old, merged)), list(changes(merged, new))


def test_what_belongs_to_clients_changes() -> None:
    """Namespaces, keys, origins, limits."""
    old = settings_of(auth={"hmac_secret": SECRET}, namespaces={"gone": {}, "kept": {}})
    new = settings_of(
        auth={"hmac_secret": "n" * 32, "hmac_secret_previous": SECRET},
        api={"keys": ["k" * 16]},
        origins={"allowed": ["https://example.com"]},
        limits={"channels": 7},
        namespaces={"fresh": {"delivery": "recoverable"}, "kept": {"presence": True}},
        channels={"allow_publish": ["client"]},
        personal={"enabled": True},
    )
    merged, changed, waiting = reloaded(old, new)
    assert merged == new
    assert changed == [
        "auth.hmac_secret",
        "auth.hmac_secret_previous",
        "api.keys",
        "origins.allowed",
        "limits.channels",
        "channels.allow_publish",
        "namespaces.fresh",
        "namespaces.gone",
        "namespaces.kept.presence",
        "personal.enabled",
    ]
    assert waiting == []


def test_what_names_of_the_user_lead_to_changes() -> None:
    """Sections, and texts."""
    old = settings_of(socketio={"events": {"gone": "a", "kept": "a", "other": "a"}, "namespaces": {"/a": {}}})
    new = settings_of(socketio={"events": {"kept": "a", "new": "a", "other": "b"}, "namespaces": {"/a": {"own": "x"}}})
    assert list(changes(old, new)) == [
        "socketio.events.gone",
        "socketio.events.new",
        "socketio.events.other",
        "socketio.namespaces./a.own",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "127.0.0.1:1"),
        ("internal_listen", ""),
        ("node_name", "x"),
        ("workers", 2),
        ("demo", True),
        ("no_auth", True),
        ("trusted_proxies", ["10.0.0.0/8"]),
        ("redis", {"url": "redis://x:1"}),
        ("redis", {"durable": True}),
        ("heartbeat", {"ping_interval": 30}),
        ("drain", {"window": 1}),
        ("tls", {"certificate": "c", "key": "k"}),
        ("log", {"level": "debug"}),
        ("api", {"public": False}),
        ("api", {"max_body": 1}),
        ("channels", {"delivery": "recoverable"}),
        ("namespaces", {"known": {"history_size": 5}}),
        ("namespaces", {"known": {"delivery": "latest"}}),
    ],
)
def test_the_rest_waits_for_a_restart(name: str, value: Any) -> None:
    """It is named, and what may change does so."""
    old = settings_of(namespaces={"known": {}})
    new = settings_of(**{"namespaces": {"known": {}}, name: value}, limits={"channels": 7})
    merged, changed, waiting = reloaded(old, new)
    assert changed == ["limits.channels"]
    assert waiting
    assert all(each.startswith(name) for each in waiting)
    assert merged == old.model_copy(update={"limits": new.limits})


def test_a_stream_stays_one() -> None:
    """Its size and its times may change; whether it is there may not, nor what tells values apart."""
    old = settings_of(
        namespaces={"log": {"delivery": "recoverable"}, "map": {"delivery": "latest"}, "old": {"history_size": 9}}
    )
    new = settings_of(
        namespaces={
            "log": {"delivery": "live", "history_ttl": 5, "presence": True},
            "map": {"delivery": "latest", "latest_key": "id", "latest_ttl": 5},
            "old": {"delivery": "recoverable", "history_size": 3},
        }
    )
    merged, changed, waiting = reloaded(old, new)
    assert waiting == ["namespaces.log.delivery", "namespaces.map.latest_key"]
    assert changed == [
        "namespaces.log.presence",
        "namespaces.log.history_ttl",
        "namespaces.map.latest_ttl",
        "namespaces.old.delivery",
        "namespaces.old.history_size",
    ]
    assert merged.namespaces["log"].delivery == "recoverable"


def test_a_namespace_that_comes_back_is_delivered_as_before() -> None:
    """It may have subscribers from before."""
    reloads = Reloads(settings_of(namespaces={"log": {"delivery": "recoverable"}}))
    reloads.take(reloads.merged(settings_of()))
    assert reloads.settings.namespaces == {}
    again = settings_of(namespaces={"log": {"history_ttl": 7}})
    reloads.take(reloads.merged(again))
    assert reloads.settings.namespaces["log"].delivery == "recoverable"
    assert reloads.settings.namespaces["log"].history_ttl == 7
    # One that came with a reload stays as it came, too.
    reloads.take(reloads.merged(settings_of(namespaces={"new": {"delivery": "latest"}})))
    reloads.take(reloads.merged(settings_of(namespaces={"new": {}})))
    assert reloads.settings.namespaces["new"].delivery == "latest"


@pytest.mark.parametrize(("flag", "section"), [("no_auth", "channels"), ("no_auth", "demo"), ("demo", "demo")])
def test_what_is_opened_is_recoverable_without_saying_so(flag: str, section: str) -> None:
    """So it stays when it is said to be live, and is the same when it is said to be recoverable."""

    def given(**options: Any) -> ServerSettings:
        sections = {"channels": options} if section == "channels" else {"namespaces": {section: options}}
        return settings_of(**{flag: True}, **sections)

    def delivery(settings: ServerSettings) -> str:
        return (settings.channels if section == "channels" else settings.namespaces[section]).delivery

    for old in (given(), settings_of(**{flag: True})):
        assert delivery(Reloads(old).merged(given(delivery="live"))) == "recoverable"
        assert delivery(Reloads(old).merged(given(delivery="recoverable"))) == "recoverable"
    assert Reloads(given()).merged(given(presence=False)) == given(presence=False)


def test_a_demo_namespace_that_is_not_named_any_more_stays_as_it_was() -> None:
    """It exists all the same."""
    old = settings_of(demo=True, namespaces={"demo": {"delivery": "latest"}})
    merged, changed, waiting = reloaded(old, settings_of(demo=True))
    assert merged.namespaces["demo"].delivery == "latest"
    assert (changed, waiting) == ([], ["namespaces.demo"])
    old = settings_of(demo=True, namespaces={"demo": {"delivery": "recoverable", "history_ttl": 5}})
    assert reloaded(old, settings_of(demo=True))[1:] == (["namespaces.demo"], [])


def test_digests_are_of_what_nodes_share() -> None:
    """The same for the same settings, however they were given; of secrets they give nothing away that helps."""
    one = settings_of(auth={"hmac_secret": SECRET}, namespaces={"a": {}, "b": {}}, listen="127.0.0.1:1")
    other = settings_of(namespaces={"b": {}, "a": {"presence": None}}, auth={"hmac_secret": SECRET}, workers=3)
    assert digests(one) == digests(other)
    assert digests(one) == digests(one.model_copy(update={"limits": one.limits.model_copy(update={"connections": 5})}))
    assert SECRET not in str(digests(one))
    assert {len(digest) for digest in digests(one).values()} == {8}


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("auth", {"hmac_secret": SECRET}),
        ("auth", {"jwks_file": "x"}),
        ("api", {"keys": ["k"]}),
        ("origins", {"allowed": ["*"]}),
        ("limits", {"message_size": 1}),
        ("channels", {"presence": True}),
        ("namespaces", {"a": {}}),
        ("personal", {"enabled": True}),
        ("redis", {"durable": True}),
        ("demo", True),
        ("no_auth", True),
    ],
)
def test_a_digest_says_where_settings_differ(section: str, value: Any) -> None:
    one, other = digests(settings_of()), digests(settings_of(**{section: value}))
    assert [name for name in one if one[name] != other[name]] == [section]
