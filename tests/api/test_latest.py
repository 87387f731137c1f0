"""Channels with `delivery = "latest"`: through the API, and to clients of both protocols."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.tokens import subscription_token
from tests.api.clients import native, plain
from tests.api.conftest import Api
from tests.api.site import OPEN, SECRET, Site, running, settings_of

LATEST = {"delivery": "latest", "latest_interval": 0, "latest_keys": 3}


@pytest.fixture
def site() -> Iterator[Site]:
    with running(
        settings_of(namespaces={"dash": {**OPEN, **LATEST}, "slow": {**LATEST, "latest_interval": 60}})
    ) as node:
        yield node


def values(result: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(each.get("tags", {}).get("key", ""), each["data"]) for each in result.get("publications", [])]


def publish(api: Api, key: str, data: Any, channel: str = "dash:a") -> None:
    assert api.call("publish", channel=channel, data=data, tags={"key": key})["offset"] > 0


def test_a_subscriber_gets_the_value_of_each_key_first(site: Site, api: Api) -> None:
    """The newest, in the order of publishing, with its age; then what comes. Without a position."""
    for number in range(3):
        publish(api, "a", number)
        publish(api, "b", -number)
    with native(site) as client:
        reply = client.command(subscribe={"channel": "dash:a"})["subscribe"]
        assert values(reply) == [("a", 2), ("b", -2)]
        assert reply.keys() == {"publications"}
        assert all(int(each["tags"]["age"]) >= 0 for each in reply["publications"])
        publish(api, "b", "new")
        assert client.publication() == {"data": "new", "tags": {"key": "b"}}
    with plain(site, "dash:a") as client:
        assert [client.recv(10), client.recv(10)] == ["2", '"new"']


def test_values_are_read_and_removed(site: Site, api: Api) -> None:
    """Subscribers learn that a key has none any more."""
    publish(api, "a", 1)
    api.call("publish", channel="dash:a", data=2)
    assert values(api.call("latest", channel="dash:a")) == [("a", 1), ("", 2)]
    with native(site) as client:
        client.subscribe("dash:a")
        assert api.call("latest_remove", channel="dash:a", key="a") == {}
        assert client.publication() == {"data": None, "tags": {"key": "a", "removed": "true"}}
    assert values(api.call("latest", channel="dash:a")) == [("", 2)]


def test_more_keys_than_allowed_are_refused(api: Api) -> None:
    """Keys that are there still take new values."""
    for key in "abc":
        publish(api, key, 0)
    code, message = api.error("publish", channel="dash:a", data=1, tags={"key": "d"})
    assert (code, "as many keys" in message) == (106, True)
    publish(api, "a", 1)


def test_a_key_comes_once_an_interval(site: Site, api: Api) -> None:
    """The newest of what came meanwhile; the interval of a token wins over that of the namespace."""
    with native(site) as patient, native(site) as quick:
        patient.subscribe("slow:a", subscription_token(SECRET, "", "slow:a"))
        quick.subscribe("slow:a", subscription_token(SECRET, "", "slow:a", latest_interval=0))
        for number in range(4):
            publish(api, "a", number, "slow:a")
            assert quick.publication()["data"] == number
        # The first at once, the others wait for the minute to pass.
        assert patient.publication()["data"] == 0
        assert patient.command(publish={"channel": "dash:b", "data": 1})["publish"] == {}
        assert site.metric("gateway_latest_skipped_total") == 2


def test_other_channels_have_no_values(api: Api) -> None:
    """And these have no history."""
    assert api.error("latest", channel="news")[0] == 108
    assert api.error("latest_remove", channel="news", key="a")[0] == 108
    code, message = api.error("history", channel="dash:a")
    assert (code, "see the method `latest`" in message) == (108, True)
