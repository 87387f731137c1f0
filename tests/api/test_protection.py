"""What protects channels, as a matrix: every kind of channel, every way in, and every fault of a token.

A cell says what is expected and why. Whether a client is in is not what it is told, but whether it gets a publication.
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, product
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.api.clients import PATIENCE, Native, native, plain
from tests.api.conftest import Api
from tests.api.site import Site, running, settings_of
from tests.auth.signing import SECRET, sign
from tests.entrances.http_client import opened
from tests.protocols.event_source import EventSource

ORIGIN = "https://example.com"
AUDIENCE, ISSUER = "the gateway", "the signer"

# One of each kind. Ann is who comes, unless her token says otherwise.
OPEN, PRIVATE, LIMITED, PERSONAL, CLOSED = "news", "$private", "room#ann", "#ann", "closed:room"
CHANNELS = (OPEN, PRIVATE, LIMITED, PERSONAL, CLOSED)

# What is wrong with a token, as claims that differ from those of a good one.
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "another channel": {"channel": "other"},
    "another client": {"client": "of somebody else"},
    "another user": {"sub": "bob"},
    "expired": {"exp": 1},
    "not yet valid": {"nbf": 2**32},
    "revoked": {"jti": "revoked"},
    "another audience": {"aud": "others"},
    "no audience": {"aud": None},
    "another issuer": {"iss": "others"},
    "no issuer": {"iss": None},
}
OF_GRANTS = ("another channel", "another client")
INVALID = ("revoked", "another audience", "no audience", "another issuer", "no issuer")

PLACES = ("subprotocol", "authorization", "cookie", "query")


def on_channels(faults: Iterable[str]) -> list[Any]:
    """Every fault on every channel; in `make test` every fault on one channel, and all channels without one."""
    return [
        pytest.param(fault, channel, marks=[] if fault == "none" or channel == PRIVATE else [pytest.mark.slow])
        for fault, channel in product(faults, CHANNELS)
    ]


def in_places(faults: Iterable[str]) -> list[Any]:
    """As `on_channels`, at every place of every way in; in `make test` all places on one channel."""
    return [
        pytest.param(
            fault,
            channel,
            place,
            way,
            marks=[] if channel == PRIVATE or (fault == "none" and place == "query") else [pytest.mark.slow],
        )
        for fault, channel, place, way in product(faults, CHANNELS, PLACES, ("plain", "sse"))
        if way == "plain" or place != "subprotocol"
    ]


class Cell(NamedTuple):
    """`code`: of the error or the close frame; 0 when the client is in."""

    code: int
    why: str


def in_(why: str) -> Cell:
    return Cell(0, why)


# Faults for which no channel makes a difference: way in -> fault -> cell.
BY_FAULT = {
    "subscribe": {
        "none": in_("a subscription token opens every channel"),
        **dict.fromkeys(OF_GRANTS, Cell(3500, "it is for another channel or connection: the client lies")),
        "another user": Cell(3500, "it is for somebody else than the connection is"),
        **dict.fromkeys(("expired", "not yet valid"), Cell(109, "the client fetches a fresh one")),
        **dict.fromkeys(INVALID, Cell(103, "it grants nothing")),
    },
    "sub_refresh": {
        "none": in_("the subscription goes on"),
        **dict.fromkeys(OF_GRANTS, Cell(3500, "it is for another channel or connection: the client lies")),
        "another user": Cell(3500, "it is for somebody else than the connection is"),
        "expired": Cell(110, "the client subscribes again"),
        "not yet valid": Cell(109, "the client sends another one a moment later"),
        **dict.fromkeys(INVALID, Cell(3500, "a backend that gives out such tokens takes the subscription away")),
    },
    "plain by grant": {
        "none": in_("a subscription token opens its channel by itself"),
        "another channel": Cell(3500, "it opens its own channel only"),
        "another client": Cell(3500, "the connection it was made for is another one"),
        "another user": in_("nobody else has said who comes, and the token opens the channel to its user"),
        **dict.fromkeys(("expired", "not yet valid"), Cell(3005, "the client comes back with a fresh one")),
        **dict.fromkeys(INVALID, Cell(3500, "it grants nothing")),
    },
    "connect with channels": {
        "none": in_("the connection token names the channel"),
        "another user": in_("it is the token that names the channel, to whomever it was given"),
        **dict.fromkeys(("expired", "not yet valid"), Cell(109, "the client fetches a fresh one")),
        **dict.fromkeys(INVALID, Cell(3500, "it says nothing")),
    },
    "plain by connection token": {
        **dict.fromkeys(("expired", "not yet valid"), Cell(3005, "the client comes back with a fresh one")),
        **dict.fromkeys(INVALID, Cell(3500, "it says nothing")),
    },
    "refresh": {
        "another user": Cell(3500, "a connection stays who it is"),
        "expired": Cell(3005, "the client comes back with a fresh one"),
        "not yet valid": Cell(109, "the client sends another one a moment later"),
        **dict.fromkeys(INVALID, Cell(3500, "it says nothing")),
    },
}

# Where the permissions of the channel decide: who comes -> channel -> cell, `code` in the native protocol.
BY_CHANNEL = {
    "ann": {
        OPEN: in_("clients may subscribe here"),
        PRIVATE: Cell(103, "$ asks for a subscription token"),
        LIMITED: in_("ann is listed after #, and user_limited lets her in"),
        PERSONAL: Cell(105, "the server has subscribed her already"),
        CLOSED: Cell(103, "the namespace allows nobody"),
    },
    "bob": {
        OPEN: in_("clients may subscribe here"),
        PRIVATE: Cell(103, "$ asks for a subscription token"),
        LIMITED: Cell(103, "bob is not listed after #"),
        PERSONAL: Cell(103, "it is ann's"),
        CLOSED: Cell(103, "the namespace allows nobody"),
    },
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A node where nothing is open but one channel, with an audience, an issuer, a cookie, and personal channels."""
    settings = settings_of(
        auth={"hmac_secret": SECRET, "cookie": "sid", "audience": AUDIENCE, "issuer": ISSUER},
        origins={"allowed": [ORIGIN]},
        personal={"enabled": True},
        channels={"allow_subscribe": ["client"], "user_limited": True},
        namespaces={"closed": {}},
    )
    with running(settings) as node, Api(node) as api:
        api.call("revoke", jti="revoked")
        yield node


def token(fault: str, **claims: Any) -> str:
    """A good one but for its fault."""
    now = time.time()
    whole = {"sub": "ann", "iat": now - 5, "exp": now + 600, "aud": AUDIENCE, "iss": ISSUER, **claims, **FAULTS[fault]}
    return sign({name: value for name, value in whole.items() if value is not None})


def of_connection(fault: str, **claims: Any) -> str:
    return token(fault, **claims)


def of_channel(fault: str, channel: str) -> str:
    return token(fault, channel=channel)


@contextmanager
def connected(site: Site) -> Iterator[Native]:
    """Ann, with a good connection token."""
    with native(site, token=of_connection("none"), origin=ORIGIN) as client:
        assert "connect" in client.connected
        yield client


def ended(closed: ConnectionClosed) -> int:
    """The code that the server gave."""
    return closed.rcvd.code if closed.rcvd is not None else 1006


def command(client: Native, **body: Any) -> int:
    """The code that answers it: of an error, or of the end of the connection."""
    try:
        return int(client.command(**body).get("error", {}).get("code", 0))
    except ConnectionClosed as closed:
        return ended(closed)


def is_in(client: Native, api: Api, channel: str) -> bool:
    """Whether a publication reaches it: it stands in front of the answer to a later command."""
    api.call("publish", channel=channel, data="secret")
    return any(push.get("channel") == channel and "pub" in push for push in client.pushes())


def outcome(site: Site, api: Api, channel: str, text: str, place: str, way: str) -> int:
    """The code with which a client of one channel ends, or 0 when a publication reaches it."""
    ended_with = (plain_outcome if way == "plain" else sse_outcome)(site, api, channel, text, place)
    wait_until_left(api, channel)
    return ended_with


def sse_outcome(site: Site, api: Api, channel: str, text: str, place: str) -> int:
    ways: dict[str, dict[str, Any]] = {
        "authorization": {"headers": {"Authorization": f"Bearer {text}"}},
        "cookie": {"headers": {"Cookie": f"sid={text}"}},
        "query": {"params": {"token": text}},
    }
    with http_of(site) as http, http.stream("GET", f"/sse/{quote(channel)}", **ways[place]) as answer:
        lines = (line + "\n" for line in answer.iter_lines())
        first = next(lines)
        if first.startswith(": subscribed"):
            api.call("publish", channel=channel, data="secret")
        name, data = next(EventSource().read(chain([first], lines)))
    return 0 if (name, data) == ("message", '"secret"') else int(json.loads(data)["code"])


def http_of(site: Site) -> httpx.Client:
    """A client of that origin."""
    url = f"http://{site.public}"
    return httpx.Client(base_url=url, headers={"Origin": ORIGIN}, trust_env=False, timeout=PATIENCE)


def plain_outcome(site: Site, api: Api, channel: str, text: str, place: str) -> int:
    ways: dict[str, dict[str, Any]] = {
        "subprotocol": {"subprotocols": ["token", text]},
        "authorization": {"additional_headers": {"Authorization": f"Bearer {text}"}},
        "cookie": {"additional_headers": {"Cookie": f"sid={text}"}},
        "query": {"query": f"?token={text}"},
    }
    with plain(site, channel, origin=ORIGIN, **ways[place]) as client:
        # No reply says that a plain connection is subscribed; it has ended, or the channel is occupied.
        while not api.call("channels")["channels"].get(channel):
            try:
                client.recv(0.01)
            except TimeoutError:
                continue
            except ConnectionClosed as closed:
                return ended(closed)
        api.call("publish", channel=channel, data="secret")
        try:
            assert client.recv(PATIENCE) == '"secret"'
        except ConnectionClosed as closed:
            return ended(closed)
    return 0


def wait_until_left(api: Api, channel: str) -> None:
    """The node has noticed that the client of a cell is gone: it is not that of the next one."""
    for _ in range(10_000):
        if not api.call("channels")["channels"].get(channel):
            return
    raise AssertionError(f"{channel} is still occupied")


@pytest.mark.parametrize(("fault", "channel"), on_channels(BY_FAULT["subscribe"]))
def test_subscribe_with_a_token(site: Site, api: Api, fault: str, channel: str) -> None:
    expected = BY_FAULT["subscribe"][fault]
    if channel == PERSONAL:
        expected = BY_CHANNEL["ann"][PERSONAL]
    with connected(site) as client:
        code = command(client, subscribe={"channel": channel, "token": of_channel(fault, channel)})
        assert code == expected.code, expected.why
        if code < 3000:
            assert is_in(client, api, channel) is (code in (0, 105)), expected.why


@pytest.mark.parametrize("channel", CHANNELS)
def test_subscribe_without_one(site: Site, api: Api, channel: str) -> None:
    expected = BY_CHANNEL["ann"][channel]
    with connected(site) as client:
        assert command(client, subscribe={"channel": channel}) == expected.code, expected.why
        assert is_in(client, api, channel) is (expected.code in (0, 105)), expected.why


@pytest.mark.parametrize(("fault", "channel"), on_channels(BY_FAULT["sub_refresh"]))
def test_sub_refresh(site: Site, api: Api, fault: str, channel: str) -> None:
    expected = BY_FAULT["sub_refresh"][fault]
    with connected(site) as client:
        if channel != PERSONAL:
            client.subscribe(channel, of_channel("none", channel))
        else:
            expected = Cell(107, "what the server subscribed the client to is not for the client to refresh")
        code = command(client, sub_refresh={"channel": channel, "token": of_channel(fault, channel)})
        assert code == expected.code, expected.why
        if code < 3000:
            assert is_in(client, api, channel), "the token before has not ended"


@pytest.mark.parametrize("channel", [PRIVATE, CLOSED])
def test_sub_refresh_opens_nothing(site: Site, api: Api, channel: str) -> None:
    """Who is not subscribed has nothing to refresh."""
    with connected(site) as client:
        assert command(client, sub_refresh={"channel": channel, "token": of_channel("none", channel)}) == 103
        assert not is_in(client, api, channel)


@pytest.mark.parametrize("claim", ["channels", "subs"])
@pytest.mark.parametrize(("fault", "channel"), on_channels(BY_FAULT["connect with channels"]))
def test_connect_with_channels_in_the_token(site: Site, api: Api, fault: str, channel: str, claim: str) -> None:
    expected = BY_FAULT["connect with channels"][fault]
    named: dict[str, Any] = {"channels": [channel]} if claim == "channels" else {"subs": {channel: {}}}
    text = of_connection(fault, **named)
    if expected.code >= 3000:
        with pytest.raises(ConnectionClosed) as closed, native(site, token=text, origin=ORIGIN):
            pass
        assert ended(closed.value) == expected.code, expected.why
        return
    with native(site, token=text, origin=ORIGIN) as client:
        code = int(client.connected.get("error", {}).get("code", 0))
        assert code == expected.code, expected.why
        assert bool(code) or is_in(client, api, channel), expected.why


@pytest.mark.parametrize("kind", ["sse", "http_stream", "uni_sse", "uni_http_stream"])
@pytest.mark.parametrize("fault", BY_FAULT["connect with channels"])
def test_connect_over_http_with_channels_in_the_token(site: Site, api: Api, fault: str, kind: str) -> None:
    """The same rules. A client that only listens gets no error, and so is closed with a code."""
    expected = BY_FAULT["connect with channels"][fault]
    request: dict[str, Any] = {"token": of_connection(fault, channels=[PRIVATE])}
    is_uni = kind.startswith("uni_")
    with http_of(site) as http, opened(http, kind, request if is_uni else {"id": 1, "connect": request}) as stream:
        first = stream.next()
        if expected.code:
            told = first if is_uni else first.get("push", first)
            (answer,) = (body for name, body in told.items() if name in ("disconnect", "error"))
            assert answer["code"] == (3005 if is_uni and expected.code == 109 else expected.code), expected.why
            return
        assert "connect" in first, expected.why
        api.call("publish", channel=PRIVATE, data="secret")
        assert "secret" in str(stream.next()), expected.why
    wait_until_left(api, PRIVATE)


@pytest.mark.parametrize("kind", ["sse", "http_stream"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_subscribe_over_http(site: Site, api: Api, channel: str, kind: str) -> None:
    """The same rules for commands that come in requests of their own."""
    expected = BY_CHANNEL["ann"][channel]
    with http_of(site) as http:
        with opened(http, kind, {"id": 1, "connect": {"token": of_connection("none")}}) as stream:
            session = stream.next()["connect"]["session"]
            subscribe = json.dumps({"id": 2, "subscribe": {"channel": channel}})
            assert http.post("/emulation", json={"session": session, "data": subscribe}).status_code == 204
            assert stream.next().get("error", {}).get("code", 0) == expected.code, expected.why
        wait_until_left(api, channel)


@pytest.mark.parametrize("channel", CHANNELS)
def test_connect_with_a_subscription_token(site: Site, channel: str) -> None:
    """It says which channel, not who connects: a native connection has any number of channels."""
    with pytest.raises(ConnectionClosed) as closed, native(site, token=of_channel("none", channel), origin=ORIGIN):
        pass
    assert ended(closed.value) == 3500


@pytest.mark.parametrize(("fault", "channel", "place", "way"), in_places(BY_FAULT["plain by grant"]))
def test_plain_by_a_subscription_token(site: Site, api: Api, fault: str, channel: str, place: str, way: str) -> None:
    expected = BY_FAULT["plain by grant"][fault]
    code = outcome(site, api, channel, of_channel(fault, channel), place, way)
    assert code == expected.code, expected.why


@pytest.mark.parametrize(
    ("fault", "channel", "place", "way"), in_places(["none", "another user", *BY_FAULT["plain by connection token"]])
)
def test_plain_by_a_connection_token(site: Site, api: Api, fault: str, channel: str, place: str, way: str) -> None:
    expected = BY_FAULT["plain by connection token"].get(fault)
    if expected is None:
        of_user = BY_CHANNEL["bob" if fault == "another user" else "ann"][channel]
        expected = of_user._replace(code=3507 if of_user.code == 103 else 0)
    code = outcome(site, api, channel, of_connection(fault), place, way)
    assert code == expected.code, expected.why


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_plain_by_a_connection_token_that_names_the_channel(site: Site, api: Api, channel: str, place: str) -> None:
    """As on the native protocol; and one that names another channel opens that one nowhere."""
    for way in ("plain", "sse")[: 1 if place == "subprotocol" else 2]:
        assert outcome(site, api, channel, of_connection("none", channels=[channel]), place, way) == 0
        if channel in (PRIVATE, CLOSED):
            assert outcome(site, api, channel, of_connection("none", channels=[OPEN]), place, way) == 3507


@pytest.mark.parametrize(("fault", "channel"), on_channels(["none", *BY_FAULT["refresh"]]))
def test_refresh(site: Site, api: Api, fault: str, channel: str) -> None:
    """A fresh token says for how long; channels that it names are for the next connect."""
    expected = BY_FAULT["refresh"].get(fault, in_("the connection goes on"))
    with connected(site) as client:
        code = command(client, refresh={"token": of_connection(fault, channels=[channel])})
        assert code == expected.code, expected.why
        if code < 3000:
            assert is_in(client, api, channel) is (channel == PERSONAL), "only the personal one was there before"


@pytest.mark.parametrize("channel", CHANNELS)
def test_subscribe_by_the_server(site: Site, api: Api, channel: str) -> None:
    """The backend may put a user into every channel, but a plain connection into its own only."""
    with connected(site) as client, native(site, token=of_connection("another user"), origin=ORIGIN) as other:
        api.call("subscribe", user="ann", channel=channel)
        assert is_in(client, api, channel)
        assert not is_in(other, api, channel)
