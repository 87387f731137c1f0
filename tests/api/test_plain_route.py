"""The plain route /ws/{channel}: where its token may be, and what its URL says."""

import logging
import string
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gateway.cli import main
from gateway.tokens import connection_token, subscription_token
from tests.api.clients import close_of, plain, settled
from tests.api.conftest import Api
from tests.api.site import OPEN, SECRET, Site, running, settings_of

ORIGIN = "https://example.com"
ADA = connection_token(SECRET, "ada")
EVE = connection_token(SECRET, "eve")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A node that knows a cookie, and nobody without a token."""
    settings = settings_of(
        auth={"hmac_secret": SECRET, "cookie": "sid"},
        origins={"allowed": [ORIGIN]},
        # Only a user's own connection can publish to itself here: whoever is heard is who the token says.
        channels={"user_limited": True, "allow_subscribe": [], "allow_publish": ["client"]},
    )
    with running(settings) as node:
        yield node


def options(token: str, place: str) -> dict[str, Any]:
    """How a client says who it is."""
    match place:
        case "subprotocol":
            return {"subprotocols": ["token", token]}
        case "authorization":
            return {"additional_headers": {"Authorization": f"Bearer {token}"}}
        case "cookie":
            return {"additional_headers": {"Cookie": f"a=b; sid={token}; c=d"}}
        case _:
            return {"query": f"?a=b&token={token}&c=d"}


PLACES = ["subprotocol", "authorization", "cookie", "query"]


@pytest.mark.parametrize("place", PLACES)
def test_the_token_may_be_in_four_places(site: Site, place: str) -> None:
    """For browsers, backends, pages of the same site, and devices."""
    with settled(site, "room#ada", origin=ORIGIN, **options(ADA, place)) as client:
        assert client.subprotocol == ("token" if place == "subprotocol" else None)
    with plain(site, "room#ada", origin=ORIGIN, **options(EVE, place)) as client:
        assert close_of(client) == (3507, "permission denied")


@pytest.mark.parametrize("place", PLACES)
def test_a_subscription_token_is_enough(site: Site, place: str) -> None:
    """It says who and where; and opens that one channel only."""
    token = subscription_token(SECRET, "ada", "$private")
    with settled(site, "$private", origin=ORIGIN, **options(token, place)):
        pass
    with plain(site, "$other", origin=ORIGIN, **options(token, place)) as client:
        assert close_of(client) == (3500, "invalid token")


@pytest.mark.parametrize("first", range(3))
def test_the_first_place_counts(site: Site, first: int) -> None:
    """Subprotocol, Authorization, cookie, query, in this order; the others are not looked at."""
    merged: dict[str, Any] = {"additional_headers": {}}
    for index, place in enumerate(PLACES[first:]):
        for name, value in options(ADA if index == 0 else "nonsense", place).items():
            merged[name] = {**merged["additional_headers"], **value} if name == "additional_headers" else value
    with settled(site, "room#ada", origin=ORIGIN, **merged):
        pass


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"query": "?token="},
        {"query": f"?Token={ADA}"},
        {"additional_headers": {"Authorization": ADA}},
        {"additional_headers": {"Authorization": "Bearer"}},
        {"additional_headers": {"Authorization": f"Basic {ADA}"}},
        {"additional_headers": {"Cookie": f"SID={ADA}"}},
        {"additional_headers": {"X-Token": ADA}},
    ],
)
def test_a_token_elsewhere_is_none(site: Site, given: dict[str, Any]) -> None:
    """And without one nobody connects here."""
    with plain(site, "room#ada", origin=ORIGIN, **given) as client:
        assert close_of(client) == (3501, "bad request")


@pytest.mark.parametrize("offered", [["token"], [ADA], [ADA, "token"], ["token", ADA, "more"]])
def test_other_subprotocols_are_none(site: Site, offered: list[str]) -> None:
    """None is confirmed that nobody understood: the handshake is refused."""
    with pytest.raises(InvalidStatus) as caught, plain(site, "room#ada", origin=ORIGIN, subprotocols=offered):
        pass
    assert caught.value.response.status_code == 400


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("nonsense", 3500),
        (ADA + "x", 3500),
        (ADA.rpartition(".")[0] + ".", 3500),
        (connection_token("another secret, longer than 32 bytes too", "ada"), 3500),
        (connection_token(SECRET, "ada", audience="others"), 3500),
        (connection_token(SECRET, "ada", expires_in=-10), 3005),
        (subscription_token(SECRET, "ada", "room#ada", expires_in=-10), 3005),
        (subscription_token(SECRET, "ada", "room#ada", client="somebody else's"), 3500),
    ],
)
def test_wrong_tokens_close_with_their_codes(site: Site, token: str, code: int) -> None:
    """Terminal for those that will never do, and a code to come back with a fresh one for the expired."""
    with plain(site, "room#ada", f"?token={token}", origin=ORIGIN) as client:
        assert close_of(client)[0] == code


def test_a_cookie_counts_with_an_origin_only(site: Site) -> None:
    """Any page on the web can make a browser send it along."""
    for origin in (None, "https://example.org", "null"):
        with pytest.raises(InvalidStatus) as refused, plain(site, "room#ada", origin=origin, **options(ADA, "cookie")):
            pass
        assert refused.value.response.status_code == 403
    settings = settings_of(auth={"hmac_secret": SECRET})
    with running(settings) as node, plain(node, "room#ada", **options(ADA, "cookie")) as client:
        assert close_of(client) == (3501, "bad request")


@pytest.fixture(scope="module")
def anybody() -> Iterator[Site]:
    """A node with open channels."""
    with running(settings_of(namespaces={"a": OPEN})) as node:
        yield node


@pytest.mark.parametrize(
    ("path", "channel"),
    [
        ("news", "news"),
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("%2F", "/"),
        ("a%2F", "a/"),
        ("a/", "a/"),
        ("/a", "/a"),
        ("a%3Ab", "a:b"),
        ("a:b", "a:b"),
        ("a%3Fb", "a?b"),
        ("a+b", "a+b"),
        ("%6eews", "news"),
        ("news?x=%2F", "news"),
    ],
)
def test_the_path_is_the_name(anybody: Site, path: str, channel: str) -> None:
    """Decoded once, with all its slashes; the query is no part of it."""
    url = f"ws://{anybody.public}/ws/{path}"
    with Api(anybody) as api, connect(url, compression=None, proxy=None) as client:
        client.send("hello")
        assert client.recv(10) == "hello"
        assert list(api.call("channels")["channels"]) == [channel]
        api.call("publish", channel=channel, data=1)
        assert client.recv(10) == "1"
    with settled(anybody, channel):
        pass


@pytest.mark.parametrize("path", ["", "%00", "a%20b", "a%0A", "%C3%BC", "%ff", "a" * 256, "nowhere:room", "%zz%20"])
def test_names_that_are_none_close(anybody: Site, path: str) -> None:
    """With the code of a bad request; the node notices nothing else."""
    with connect(f"ws://{anybody.public}/ws/{path}", compression=None, proxy=None) as client:
        assert close_of(client) == (3501, "unknown channel" if path == "nowhere:room" else "bad request")


def test_a_line_break_inside_is_no_route(anybody: Site) -> None:
    """Refused before the upgrade."""
    with pytest.raises(InvalidStatus), connect(f"ws://{anybody.public}/ws/a%0Ab", compression=None, proxy=None):
        pass


@pytest.mark.parametrize(
    "channel",
    [
        "$private",
        "room#ada",
        "$a:room#ada,eve",
        "a:b/c?d#ada",
        "100%",
        "a&token=b",
        "".join(sorted(set(string.printable) - set(string.whitespace) - {":", "#"})) + "#ada",
    ],
)
def test_gateway_url_prints_what_reaches_the_channel(anybody: Site, channel: str) -> None:
    """Whatever is in its name: # and $ bite, and so do ?, % and &."""
    token = subscription_token(SECRET, "ada", channel)
    arguments = ["url", channel, "--url", f"http://{anybody.public}", "--token", token]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    url = result.output.strip()
    # Nothing in it that a shell replaces inside double quotes, and no fragment.
    assert not set(url) & set('$`"\\!#')
    with Api(anybody) as api, connect(url, compression=None, proxy=None) as client:
        api.call("publish", channel=channel, data="first")
        while client.recv(10) != '"first"':
            pass
        assert list(api.call("channels")["channels"]) == [channel]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"additional_headers": {"Authorization": ADA}}, "the Authorization header is not Bearer TOKEN"),
        ({"additional_headers": {"Authorization": "Bearer "}}, "the Authorization header is not Bearer TOKEN"),
        ({"query": f"?tokn={ADA}"}, "the query string has other parameters, but no token=TOKEN"),
        ({"query": f"?{ADA}"}, "the query string has other parameters, but no token=TOKEN"),
        ({"query": "?since=e:1"}, ""),
        ({}, ""),
    ],
)
def test_the_log_says_where_a_token_seems_to_be(
    site: Site, caplog: pytest.LogCaptureFixture, options: dict[str, Any], hint: str
) -> None:
    """Without a word of what was sent."""
    caplog.set_level(logging.INFO, "gateway.refusals")
    with plain(site, "room#ada", origin=ORIGIN, **options) as client:
        assert close_of(client) == (3501, "bad request")
    (line,) = [vars(each) for each in caplog.records if each.name == "gateway.refusals"]
    without = "connect without a token"
    assert line["detail"].startswith(f"{without} ({hint});" if hint else f"{without};")
    assert ADA not in str(line)


@pytest.mark.parametrize("since", ["0", "7", "e", "e:", "e:x"])
def test_a_position_that_is_none_is_refused_by_name(site: Site, since: str) -> None:
    """Whatever the channel and its history; a position that is one is looked for."""
    with plain(site, "room#ada", origin=ORIGIN, query=f"?since={since}&token={ADA}") as client:
        assert close_of(client) == (4500, "since is not EPOCH:OFFSET")
    with plain(site, "room#ada", origin=ORIGIN, query=f"?since=e:1&token={ADA}") as client:
        assert close_of(client) == (4500, "unrecoverable position")
