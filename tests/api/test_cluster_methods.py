"""Channels and info: what is where."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import __version__
from gateway.api.cluster_methods import PAGE, UNPAGED
from gateway.messages import Channel
from tests.api.clients import native, settled
from tests.api.conftest import Api
from tests.api.site import Site, running, settings_of


def eventually(read: Callable[[], Any], expected: Any) -> None:
    """Wait for what a heartbeat carries; it comes every 3 s."""
    deadline = time.monotonic() + 15
    while (value := read()) != expected:
        assert time.monotonic() < deadline, f"{value!r}, expected {expected!r}"
        time.sleep(0.02)


@pytest.fixture
def site() -> Iterator[Site]:
    """A node without any client yet."""
    with running(settings_of(node_name="one", node_url="http://one.example.com")) as node:
        yield node


def occupy(site: Site, names: list[str]) -> None:
    """Subscribed channels, without the clients."""

    def write() -> None:
        for name in names:
            site.gateway.administration._registry.set_occupancy(Channel("default", name), 1)

    site.call(write)


def test_channels_are_those_with_subscribers(site: Site, api: Api) -> None:
    """With the number of subscriptions of all protocols; gone with the last of them."""
    assert api.call("channels") == {"channels": {}}
    with native(site) as one, contextlib.ExitStack() as stack:
        one.subscribe("news")
        for _ in range(2):
            stack.enter_context(settled(site, "news"))
        stack.enter_context(settled(site, "chat:a"))
        api.call("publish", channel="nobody", data=1)
        assert api.call("channels") == {"channels": {"news": {"num_clients": 3}, "chat:a": {"num_clients": 1}}}
        one.command(unsubscribe={"channel": "news"})
        assert api.call("channels")["channels"]["news"] == {"num_clients": 2}
    eventually(lambda: api.call("channels"), {"channels": {}})


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["chat:1", "chat:2", "chat:30", "news"]),
        ("*", ["chat:1", "chat:2", "chat:30", "news"]),
        ("chat:*", ["chat:1", "chat:2", "chat:30"]),
        ("chat:?", ["chat:1", "chat:2"]),
        ("chat:[13]*", ["chat:1", "chat:30"]),
        ("news", ["news"]),
        ("new", []),
        ("NEWS", []),
        ("a" * 255, []),
        ("*a" * 127, []),
        ("[", []),
        ("\\", []),
        ("ü\n", []),
    ],
)
def test_channels_can_be_filtered(site: Site, api: Api, pattern: str, expected: list[str]) -> None:
    """By a glob over the whole name; any text is a pattern."""
    occupy(site, ["chat:1", "chat:2", "chat:30", "news"])
    assert sorted(api.call("channels", pattern=pattern)["channels"]) == expected


@pytest.mark.parametrize("pattern", ["", "room:*"])
def test_channels_come_in_pages(site: Site, api: Api, pattern: str) -> None:
    """Every channel in exactly one page; the cursor is missing behind the last."""
    names = [f"room:{number}" for number in range(25)]
    occupy(site, names)
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = api.call("channels", pattern=pattern, limit=7, **more)
        assert len(page["channels"]) <= 7
        found += page["channels"]
        if "cursor" not in page:
            break
        more = {"cursor": page["cursor"]}
    assert sorted(found) == sorted(names)


def test_without_pages_all_channels_come_at_once(site: Site, api: Api) -> None:
    """Up to a bound, above which the answer is an error and no part: clients that know no pages must not be misled."""
    names = [f"room:{number}" for number in range(UNPAGED)]
    occupy(site, names)
    assert len(names) > PAGE
    assert set(api.call("channels")["channels"]) == set(names)
    occupy(site, [f"more:{number}" for number in range(PAGE + 1)])
    code, message = api.error("channels")
    assert code == 107
    assert "limit and cursor" in message
    assert len(api.call("channels", pattern="more:*")["channels"]) == PAGE + 1
    assert len(api.call("channels", limit=10_000)["channels"]) == 10_000


def test_info_describes_each_node(site: Site, api: Api) -> None:
    """As of its latest heartbeat; anonymous clients are clients of no user."""
    (node,) = api.call("info")["nodes"]
    assert node["uid"] == site.gateway.administration.profile.uid
    assert (node["name"], node["url"], node["version"]) == ("one", "http://one.example.com", __version__)
    assert node["process"]["rss"] > 1_000_000
    assert node["process"]["cpu"] >= 0
    assert 0 <= node["uptime"] < 60
    with native(site, "ada") as one, native(site, "ada") as two, native(site):
        one.subscribe("news")
        two.subscribe("news")
        two.subscribe("other")

        def numbers() -> dict[str, int]:
            return {name: value for name, value in api.call("info")["nodes"][0].items() if name.startswith("num_")}

        eventually(numbers, {"num_clients": 3, "num_users": 1, "num_subs": 3, "num_channels": 2})
