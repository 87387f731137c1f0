"""Publish and broadcast, as real clients see them."""

import json
from base64 import b64encode, encodebytes
from typing import Any

import pytest

from tests.api.clients import native, plain, settled
from tests.api.conftest import Api
from tests.api.site import Site


@pytest.mark.parametrize(
    "data",
    [
        {"text": "hi", "n": [1, 2.5, None, True]},
        [],
        "text",
        "ünï☃",
        0,
        None,
        False,
        {"big": 12345678901234567890123},
        "\u2028\u2029\x7f",
        "x" * 65_534,
    ],
    ids=lambda data: repr(data)[:20],
)
def test_any_json_value_reaches_every_client(site: Site, api: Api, data: Any) -> None:
    """As the value itself: to native clients in `data`, to plain ones as the whole text message."""
    with native(site) as one, settled(site, "values") as other:
        one.subscribe("values")
        assert api.call("publish", channel="values", data=data) == {}
        assert one.push() == {"channel": "values", "pub": {"data": data}}
        assert json.loads(other.recv(10)) == data


def test_the_payload_is_not_touched(site: Site, api: Api) -> None:
    """No number is rounded, no key sorted, no white space dropped: it is never parsed into Python objects."""
    body = b'{"b": 1.10, "a":1e999, "a": -0, "c":"\\u00fc"}'
    with settled(site, "raw") as client:
        assert api.send("publish", b'{"channel":"raw","data":%b}' % body) == {"result": {}}
        assert client.recv(10, decode=False) == body


@pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n"])
def test_line_breaks_in_the_payload_are_taken_out(site: Site, api: Api, line_break: bytes) -> None:
    """They would split the frames of the native protocol; blanks take their place, and escaped ones stay."""
    body = line_break.join((b"{", b'"a": [1,', b'2],"b":"x\\ny"', b"}"))
    with native(site) as one, settled(site, "lines") as other:
        one.subscribe("lines")
        assert api.send("publish", b'{"channel":"lines",\n"data":%b}' % body) == {"result": {}}
        assert one.publication() == {"data": {"a": [1, 2], "b": "x\ny"}}
        blanks = " " * len(line_break)
        assert other.recv(10) == f'{{{blanks}"a": [1,{blanks}2],"b":"x\\ny"{blanks}}}'


def test_half_a_character_is_replaced(site: Site, api: Api) -> None:
    """JavaScript backends write it when they cut a text in the middle of an emoji."""
    with settled(site, "cut") as client:
        assert api.send("publish", rb'{"channel":"cut","data":"\ud83d"}') == {"result": {}}
        assert client.recv(10) == r'"\ufffd"'


NO_JSON = [b"\0\xff", b"text", bytes(range(256)), b'"\xff"', b"1 2", b" ", b"01", b"[" * 200 + b"]" * 200]


@pytest.mark.parametrize("data", NO_JSON, ids=lambda data: repr(data[:20]))
def test_base64_of_no_json_is_binary(site: Site, api: Api, data: bytes) -> None:
    """A binary message to plain clients; marked as base64 where the protocol has no binary."""
    with native(site) as one, settled(site, "bytes") as other:
        one.subscribe("bytes")
        encoded = b64encode(data).decode()
        assert api.call("publish", channel="bytes", b64data=encoded) == {}
        assert one.publication() == {"data": {"base64": encoded}}
        assert other.recv(10) == data


JSON = [b"1", b"null", b' {"a":1.10}\n', '"ü"'.encode(), rb'"\ud83d"', b"[]"]


@pytest.mark.parametrize("data", JSON, ids=repr)
def test_base64_of_json_is_json(site: Site, api: Api, data: bytes) -> None:
    """As if it had been published as `data`: some libraries encode everything. With `binary`, it stays bytes."""
    with native(site) as one, settled(site, "either") as other:
        one.subscribe("either")
        encoded = b64encode(data).decode()
        assert api.call("publish", channel="either", data=None, b64data=encoded) == {}
        assert api.call("broadcast", channels=["either"], b64data=encoded) == {"responses": [{"result": {}}]}
        assert api.send("publish", b'{"channel":"either","data":%b}' % data) == {"result": {}}
        assert api.call("publish", channel="either", b64data=encoded, binary=True) == {}
        whole = [other.recv(10) for _ in range(4)]
        assert whole[0] == whole[1]
        assert json.loads(whole[0]) == json.loads(whole[2])
        assert whole[3] == data
        parsed = [one.publication()["data"] for _ in range(4)]
        assert parsed[0] == parsed[1] == parsed[2]
        assert parsed[3] == {"base64": encoded}


def test_base64_may_have_line_breaks(site: Site, api: Api) -> None:
    """Ruby's Base64.encode64 and `base64` of a shell write one after each 60 or 76 characters; Go ignores them."""
    data = bytes(range(256))
    with settled(site, "wrapped") as client:
        for encoded in (encodebytes(data).decode(), encodebytes(data).decode().replace("\n", "\r\n")):
            assert api.call("publish", channel="wrapped", b64data=encoded) == {}
            assert client.recv(10) == data


def test_tags_go_with_the_publication(site: Site, api: Api) -> None:
    """To clients of the native protocol; plain messages have no room for them."""
    with native(site) as one, settled(site, "tagged") as other:
        one.subscribe("tagged")
        api.call("publish", channel="tagged", data=1, tags={"a": "ü\n", "": None, "b": ""})
        api.call("publish", channel="tagged", data=2, tags={})
        api.call("publish", channel="tagged", data=3, tags=None, skip_history=True)
        assert one.publication() == {"data": 1, "tags": {"a": "ü\n", "": "", "b": ""}}
        assert one.publication() == {"data": 2}
        assert one.publication() == {"data": 3}
        assert [other.recv(10) for _ in range(3)] == ["1", "2", "3"]


def test_one_connection_can_be_left_out(site: Site, api: Api) -> None:
    """Of several of the same user, on the same channel; others and later publications are not affected."""
    with native(site, "ada") as one, native(site, "ada") as other, settled(site, "echo") as third:
        one.subscribe("echo")
        other.subscribe("echo")
        api.call("publish", channel="echo", data=1, exclude_client=one.id)
        api.call("broadcast", channels=["echo"], data=2, exclude_client=one.id)
        api.call("publish", channel="echo", data=3, exclude_client="nobody")
        assert one.publication() == {"data": 3}
        assert [other.publication()["data"] for _ in range(3)] == [1, 2, 3]
        assert [third.recv(10) for _ in range(3)] == ["1", "2", "3"]


def test_a_repeated_key_is_no_second_message(site: Site, api: Api) -> None:
    """Within its channel: the answer is the same, nothing is delivered again; another channel knows nothing of it."""
    with settled(site, "once") as client, settled(site, "twice") as other:
        for attempt in range(3):
            assert api.call("publish", channel="once", data=attempt, idempotency_key="order-1") == {}
        api.call("broadcast", channels=["once", "twice"], data=7, idempotency_key="order-1")
        api.call("publish", channel="once", data=8, idempotency_key="order-2")
        assert [client.recv(10) for _ in range(2)] == ["0", "8"]
        assert other.recv(10) == "7"


def test_backends_publish_where_clients_may_not(site: Site, api: Api) -> None:
    """Channels are protected from clients; whoever has the API key may."""
    with native(site, "ada") as client:
        client.subscribe("room#ada")
        for channel in ("closed:room", "$private", "chat:room#nobody"):
            assert api.call("publish", channel=channel, data=1) == {}
        api.call("publish", channel="room#ada", data=2)
        assert client.push() == {"channel": "room#ada", "pub": {"data": 2}}


def test_broadcast_answers_for_each_channel(site: Site, api: Api) -> None:
    """In their order; what is wrong with one does not stop the others. The same channel twice gets it twice."""
    channels = ["first", "nowhere:room", "second", "two words", "first"]
    before = site.errors("102"), site.errors("107")
    with settled(site, "first") as first, settled(site, "second") as second:
        responses = api.call("broadcast", channels=channels, data={"a": 1})["responses"]
        assert [response.get("error", {}).get("code") for response in responses] == [None, 102, None, 107, None]
        assert responses[0] == {"result": {}}
        assert [first.recv(10) for _ in range(2)] == ['{"a": 1}'] * 2
        assert second.recv(10) == '{"a": 1}'
    assert (site.errors("102"), site.errors("107")) == (before[0] + 1, before[1] + 1)


def test_a_broadcast_answers_for_names_that_are_none(site: Site, api: Api) -> None:
    """Empty, null or no string at all: 107 in their places, and the others get it."""
    with settled(site, "first") as first:
        channels: list[Any] = ["first", "", None, 5, ["first"], {}, "first"]
        responses = api.call("broadcast", channels=channels, data=1)["responses"]
        assert [response.get("error", {}).get("code") for response in responses] == [None, *[107] * 5, None]
        assert [first.recv(10) for _ in range(2)] == ["1", "1"]


def test_publishes_of_one_backend_keep_their_order(site: Site, api: Api) -> None:
    """One after another, each acknowledged; every subscriber sees the same."""
    with settled(site, "order") as one, settled(site, "order") as other:
        assert one.recv(10) == "hello"
        for number in range(50):
            api.call("publish", channel="order", data=number)
        for client in (one, other):
            assert [client.recv(10) for _ in range(50)] == [str(number) for number in range(50)]


def test_a_publication_reaches_the_channel_as_it_is_written(site: Site, api: Api) -> None:
    """Names are compared byte by byte: nothing is decoded, folded or trimmed."""
    with settled(site, "a%2Fb") as encoded, settled(site, "a/b") as decoded, settled(site, "A/b") as upper:
        for number, channel in enumerate(("a%2Fb", "a/b", "A/b")):
            api.call("publish", channel=channel, data=number)
        assert [client.recv(10) for client in (encoded, decoded, upper)] == ["0", "1", "2"]


def test_what_is_published_to_nobody_is_accepted(site: Site, api: Api) -> None:
    """And gone: who comes later does not get it."""
    assert api.call("publish", channel="empty", data="early") == {}
    with plain(site, "empty") as client:
        client.send("late")
        assert client.recv(10) == "late"
