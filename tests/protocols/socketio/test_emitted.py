"""What services emit through Redis: as the libraries write it, and as nobody should."""

import json
import pickle
import struct
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.json_text import MAX_DEPTH
from gateway.messages import Kind
from gateway.protocols.socketio.emitted import BESIDE, EXPANSION, Emission, NotEmitted, from_emitter, from_manager

MOST = 1000
CLIENT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
BUFFER = b"\x00\xff"
encode = msgspec.msgpack.encode
Decode = Callable[[bytes, int], Emission]


def triple(*data: Any, type: Any = 2, nsp: Any = "/", **operator: Any) -> bytes:
    """As `@socket.io/redis-emitter` writes it."""
    packet = {"type": type, "data": list(data), "nsp": nsp}
    return encode(["emitter", packet, {"rooms": [], "flags": {}, "except": [], **operator}])


def message(event: Any = "e", data: Any = (1,), **more: Any) -> bytes:
    """As a manager of python-socketio writes it."""
    message = {"method": "emit", "event": event, "data": data, "binary": False, "namespace": "/", "room": None}
    return json.dumps({**message, "skip_sid": None, "callback": None, "host_id": "4f", **more}).encode()


def refused(decode: Decode, data: bytes, reason: str) -> str:
    with pytest.raises(NotEmitted) as caught:
        decode(data, MOST)
    assert caught.value.reason == reason
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"a": [1, 2.5, None, True]}, b'{"a":[1,2.5,null,true]}'),
        ([], b"[]"),
        ("grün \u0110 \U0001f30d\n", '"grün \u0110 \U0001f30d\\n"'.encode()),
        (2**63, b"9223372036854775808"),
        (float("nan"), b"null"),
        (None, b"null"),
        ({"at": datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)}, b'{"at":"2026-01-02T03:04:05.006Z"}'),
        (datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00.000Z"'),
    ],
)
def test_an_argument_of_the_emitter_is_stored_as_its_json(value: Any, stored: bytes) -> None:
    assert from_emitter(triple("e", value), MOST) == Emission("e", stored)


def test_a_buffer_is_binary() -> None:
    assert from_emitter(triple("e", BUFFER), MOST) == Emission("e", BUFFER, Kind.BINARY)
    assert from_emitter(triple("e", b"", type=5), MOST) == Emission("e", b"", Kind.BINARY)
    in_base64 = b64encode(BUFFER).decode()
    for arguments in ([{"_placeholder": True, "num": 0}], {"_placeholder": True, "num": 0}):
        sent = message(data=[arguments, in_base64], binary=True)
        assert from_manager(sent, MOST) == Emission("e", BUFFER, Kind.BINARY)


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        ([{"a": 1}], b'{"a": 1}'),
        ([[1, 2]], b"[1, 2]"),
        ([], b"null"),
        ({"a": 1}, b'{"a": 1}'),
        ("text", b'"text"'),
        ([None], b"null"),
    ],
)
def test_an_argument_of_the_manager_stays_as_it_is(data: Any, stored: bytes) -> None:
    assert from_manager(message(data=data), MOST) == Emission("e", stored)


def test_half_a_character_is_replaced() -> None:
    assert from_manager(message(data=["\ud83d"]), MOST).data == b'"\\ufffd"'


def test_rooms_and_the_client_that_does_not_get_it() -> None:
    told = {"rooms": ["a", 7, "a"], "except": [CLIENT]}
    assert from_emitter(triple("e", 1, **told), MOST) == Emission("e", b"1", Kind.JSON, ("a", "7"), CLIENT)
    assert from_manager(message(room="a", skip_sid=CLIENT), MOST) == Emission("e", b"1", Kind.JSON, ("a",), CLIENT)
    assert from_manager(message(room=["a", "b"], skip_sid=[CLIENT]), MOST).rooms == ("a", "b")
    assert from_emitter(triple(404), MOST) == Emission("404", b"null")


@pytest.mark.parametrize("exceptions", [["room"], [CLIENT, CLIENT[::-1]], [7], [CLIENT.upper()], [CLIENT + "\n"]])
def test_nobody_gets_what_somebody_else_must_not_get(exceptions: list[Any]) -> None:
    refused(from_emitter, triple("e", 1, **{"except": exceptions}), "except")
    if exceptions != [7]:
        refused(from_manager, message(skip_sid=exceptions), "except")


def test_flags_and_callbacks_are_ignored() -> None:
    flags = {"volatile": True, "compress": False, "local": True}
    assert from_emitter(triple("e", 1, flags=flags), MOST) == Emission("e", b"1")
    assert from_manager(message(callback=["room", "/", 1]), MOST) == Emission("e", b"1")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (triple("e", 1, 2), "arguments"),
        (triple("e", {"a": BUFFER}), "buffers"),
        (triple("e", [[BUFFER]]), "buffers"),
        (triple("e", 1, nsp="/chat"), "namespace"),
        (triple("e", 1, type=3), "method"),
        (triple("connect", 1), "malformed"),
        (triple("", 1), "malformed"),
        (triple(), "malformed"),
        (triple(None, 1), "malformed"),
        (triple("e", {BUFFER: 1}), "malformed"),
        (triple("e", msgspec.msgpack.Ext(5, b"x")), "malformed"),
        (triple("e", "a" * (MOST - 2)), "size"),
        (triple("e" * (MOST + 1)), "size"),
        (b"a" * (EXPANSION * MOST + BESIDE + 1), "size"),
        (encode(["emitter", {"type": 2, "data": ["e"], "nsp": "/"}]), "malformed"),
        (encode(["emitter", {"type": 2, "data": ["e"], "nsp": "/"}, {"rooms": [None]}]), "malformed"),
        (encode({"type": 2}), "malformed"),
        (triple("e", 1) + b"\x00", "malformed"),
        (triple("e", "\u00ff").replace(b"\xc3\xbf", b"\xed\xa0"), "malformed"),
        (b'{"type":3,"data":{}}', "malformed"),
        (b"", "malformed"),
    ],
)
def test_what_the_emitter_cannot_have_stored(data: bytes, reason: str) -> None:
    refused(from_emitter, data, reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(data=[1, 2]), "arguments"),
        (message(data=[[{"a": {"_placeholder": True, "num": 0}}], "AP8="], binary=True), "buffers"),
        (message(data=[[{"_placeholder": True, "num": 0}], "AP8=", "AP8="], binary=True), "buffers"),
        (message(data=[[{"_placeholder": True, "num": 1}], "AP8="], binary=True), "buffers"),
        (message(data=[[{"_placeholder": True, "num": 0}, 1], "AP8="], binary=True), "arguments"),
        (message(data=[[{"_placeholder": True, "num": 0}], "A*"], binary=True), "malformed"),
        (message(data=[[{"_placeholder": True, "num": 0}], "\u00e9"], binary=True), "malformed"),
        (message(data=[[1]], binary=True), "malformed"),
        (message(namespace="/chat"), "namespace"),
        (message(event="disconnect"), "malformed"),
        (message(event=None), "malformed"),
        (message(room={"a": 1}), "malformed"),
        (message(data=["a" * MOST]), "size"),
        (b'{"method":"emit","event":"e","data":NaN}', "malformed"),
        (b'{"method":"emit","event":"\xff","data":1}', "malformed"),
        (json.dumps({"method": "enter_room", "sid": "a", "room": 5}).encode(), "method"),
        (json.dumps({"method": "disconnect", "sid": "a", "namespace": "/chat"}).encode(), "method"),
        (json.dumps({"event": "e"}).encode(), "malformed"),
        (b"[]", "malformed"),
        (b"", "malformed"),
    ],
)
def test_what_the_manager_cannot_have_stored(data: bytes, reason: str) -> None:
    refused(from_manager, data, reason)


class Bomb:
    """Whoever unpickles it is told off."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_read(protocol: int) -> None:
    for value in (Bomb(), {"method": "emit", "event": "e", "data": 1}):
        data = pickle.dumps(value, protocol)
        refused(from_manager, data, "pickle" if protocol >= 2 else "malformed")
        refused(from_emitter, data, "malformed")


def test_depth_is_bounded() -> None:
    for depth, reason in ((MAX_DEPTH + 1, "malformed"), (50_000, "malformed")):
        nested = b"\x91" * depth + b"\x01"
        whole = triple("e", "X").replace(encode("X"), nested)
        with pytest.raises(NotEmitted) as caught:
            from_emitter(whole, 100_000)
        assert caught.value.reason == reason
        text = message(data=["X"]).replace(b'"X"', b"[" * depth + b"1" + b"]" * depth)
        with pytest.raises(NotEmitted) as caught:
            from_manager(text, 100_000)
        assert caught.value.reason == reason
    fits = b"\x91" * (MAX_DEPTH - 1) + b"\x01"
    assert from_emitter(triple("e", "X").replace(encode("X"), fits), MOST).data.count(b"[") == MAX_DEPTH - 1


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_memory_is_not_taken_for_what_a_message_only_claims(head: bytes) -> None:
    """An array of four thousand million items, in five bytes: as all, as the data, as rooms, and deep within."""
    huge = head + struct.pack(">I", 2**32 - 1)
    marker = encode("X")
    tracemalloc.start()
    try:
        for whole in (
            huge,
            *(each.replace(marker, huge) for each in (triple("e", "X"), triple("X"), triple("e", ["X"]))),
        ):
            refused(from_emitter, whole, "malformed")
        refused(from_emitter, triple("e", 1, rooms="X").replace(marker, huge), "malformed")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.lists(st.text(), max_size=3))
def test_every_json_comes_back(value: Any, rooms: list[str]) -> None:
    expected = tuple(dict.fromkeys(rooms))
    for found in (
        from_emitter(triple("e", value, rooms=rooms), 100_000),
        from_manager(message(data=[value], room=rooms), 100_000),
    ):
        assert (found.kind, found.rooms) == (Kind.JSON, expected)
        assert json.loads(found.data, parse_constant=pytest.fail) == value


@given(st.data())
def test_no_other_exception_for_any_bytes(data: st.DataObject) -> None:
    """Arbitrary ones, and well-formed ones with a piece replaced."""
    good = data.draw(st.sampled_from([triple("e", {"a": [1]}, rooms=["a"]), message(), triple("e", BUFFER), b""]))
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    mangled = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
    for decode in (from_emitter, from_manager):
        with suppress(NotEmitted):
            found = decode(mangled, MOST)
            assert len(found.data) <= MOST
            if found.kind is Kind.JSON:
                json.loads(found.data)
                assert b"\n" not in found.data
