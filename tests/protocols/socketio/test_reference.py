"""The same input for the parsers of the reference, from npm, and for ours: tables of examples, and mutations of them.

All that the reference refuses, ours refuse. What ours refuse on top, and values that differ, stand below with a reason;
60,000 mutations with other seeds showed nothing else.
"""

import base64
import json
import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from gateway.errors import Disconnect
from gateway.messages import Kind
from gateway.protocols.socketio import engineio_packets, socketio_encoder
from gateway.protocols.socketio.attachments import Assembler
from gateway.protocols.socketio.engineio_packets import EnginePacket, EngineType
from gateway.protocols.socketio.socketio_packets import (
    Argument,
    SocketAck,
    SocketConnect,
    SocketDisconnect,
    SocketEvent,
    SocketPacket,
)
from gateway.protocols.wire_protocol import Message
from tests.cluster.sdk import SDK_FOLDER, need_node
from tests.protocols.socketio.test_socketio_packets import BAD_PACKETS


class Difference(NamedTuple):
    """Input that the reference accepts and ours refuse."""

    reason: str
    # What we say, and which input is meant: expressions.
    says: str
    input: str


# The beginning of a packet, up to its ack id.
_HEAD = r"[0-6](?:[^-/\[{]*-)?(?:/[^,]*(?:,|\Z))?"
STRICTER = [
    Difference(
        "Nothing, or white space, in place of a type, where the reference reads 0", "unknown type", r"[\s\ufeff]|\Z"
    ),
    Difference(
        "No array, nor anything else: handlers of the reference get an event without a name",
        "no array|without an id",
        rf"(?=[2356]){_HEAD}\d*\Z",
    ),
    Difference(
        "White space in place of an ack id, where the reference reads 0: nobody writes it, and nobody would expect it",
        "no array|no object|with a payload",
        rf"{_HEAD}\d*[\s\ufeff]",
    ),
    Difference(
        "A number of attachments in another spelling: 01, 1.0, 1e0, 0x1",
        "without its number of attachments",
        "[56](?!(?:[1-9]|10)-)[^-]+-",
    ),
    Difference(
        "An ack id that JavaScript rounds: its event would not be found", "an ack id above", rf"{_HEAD}\d{{16,}}"
    ),
    Difference("An acknowledgement without an id: the reference finds no event for it", "without an id", "[36]"),
    Difference("CONNECT_ERROR: the server of the reference closes the connection, too", "CONNECT_ERROR", "4"),
    Difference("Buffers without a place, which the reference drops, or with two", "not one placeholder", "[56]"),
    Difference(
        "A float that indexes no buffer, or one by chance", "none of the attachments", r"[56].*\"num\":[^,}]*[.e]"
    ),
    Difference("A limit: arguments", "at most length", "[2356]"),
    Difference("A limit: depth", "nested deeper", r"[^\[{]*(?:[\[{][^\[{]*){128}"),
    Difference("A limit: the name of a namespace", "a namespace of more than", rf"{_HEAD}(?<=.{{255}})"),
    Difference("U+001E would split a body, and others spoil logs", "control character", r"[^,]*[\x00-\x1f\x7f]"),
]

# Values that differ although both accept:
# - a namespace has no query for us (`socketio_packets._namespace` says why);
# - halves of characters are U+FFFD, since decoders in other languages refuse them;
# - numbers keep their digits, of which JavaScript rounds away what it has no room for. (None has so many here.)

VALID = [
    "0",
    "0/admin",
    "0/admin,",
    '0{"token":"123"}',
    '0/admin,{"token":"123"}',
    "0/admin?a=b,",
    "1",
    "1/admin,",
    '2["foo"]',
    '2/admin,["bar",{"a":[1,2,null]}]',
    '212["foo","b"]',
    '2/a,9007199254740991["foo"]',
    '2[1,"a"]',
    "2[-1.5e3]",
    '2["a\\ud800","\\udc00\\ud83d\\ude00"]',
    '2["\N{EURO SIGN}","\N{GRINNING FACE}\\n\\u20ac"]',
    '2["a",{"_placeholder":true,"num":0}]',
    '2["a",\n{"b" :\t1}]',
    "312[]",
    '3/admin,13["bar"]',
    '51-["baz",{"_placeholder":true,"num":0}]',
    '52-/admin,7["baz",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]',
    '61-15["bar",{"a":[{"_placeholder":true,"num":0}]}]',
    '510-["a",{"num":0,"_placeholder":true}]',
]
LIMITS = [f'2["a"{",1" * 9}]', f'2["a",{"[" * 128}{"]" * 128}]', '51-["a",{"_placeholder":true,"num":0.0}]']
"""Beyond those of `STRICTER`, which BAD_PACKETS does not have all."""

# What mutations put in: characters with a meaning somewhere, digits that are none here, other white space.
PIECES = [*'0123456789-/,?[]{}":.e+ \t\n\\', "\xa0", "\ufeff", "\x1e", "\u0662", "\N{EURO SIGN}", "null", "true", '"a"']
PIECES += ['{"_placeholder":true,"num":0}', "\\ud83d", "1-", "/a,", "/a?b", "1e0", "0x1", "9" * 17, "[[", "]]"]
BUFFERS = [b"\x00\xff", b"", *[b"%d" % number for number in range(8)]]


def mutations(valid: Sequence[str], count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(count):
        text = rng.choice(valid)
        for _ in range(rng.randint(1, 2)):
            place = rng.randint(0, len(text))
            text = text[:place] + rng.choice(["", *PIECES]) + text[place + rng.randint(0, 2) :]
        yield text


def buffers(text: str) -> int:
    """Binary messages to send after a text: as many as it announces, or one that it does not."""
    announced = re.match("[56]([1-9]|10)-", text)
    return int(announced[1]) if announced else int(text[:1] in ("5", "6"))


BAD = [data.decode() for data in BAD_PACKETS if data.decode(errors="ignore").encode() == data]
CONNECTIONS: list[list[str | bytes]] = [
    [text, *BUFFERS[: buffers(text)]] for text in [*VALID, *BAD, *LIMITS, *mutations(VALID, 600, seed=1)]
]
"""The messages of one connection each."""

MESSAGES = [
    "",
    "0{}",
    "1",
    "2probe",
    "3",
    "4",
    "4a\N{EURO SIGN}",
    "5",
    "6",
    "7",
    "b",
    "bQQ==",
    "bQ",
    "bQQ",
    "bQQ==x",
    "B",
    "-1",
]
MESSAGES += ["b-_-_", " 4", "\u0662", "44", "4\x1e"]
"""Texts of WebSocket messages."""

BODIES = [
    b"",
    b"\x1e",
    b"4a\x1e2\x1e4b",
    b"4a\x1ebAQIDBA==",
    b"4a\x1e\x1e4b",
    b"4a\x1e",
    b"x\x1e4a",
    b"4\xc3\xa9\x1ebQQ==",
]
BODIES += [b"4\xff", b"4a\x1ebQ", b"b\x1eb\x1e4"]

WRITTEN: list[list[EnginePacket]] = [
    [EnginePacket(EngineType.MESSAGE, b'2["a"]')],
    [EnginePacket(EngineType.PING), EnginePacket(EngineType.MESSAGE, b"\x01\xff", binary=True)],
    [EnginePacket(EngineType.MESSAGE, b"", binary=True), EnginePacket(EngineType.NOOP), EnginePacket(EngineType.CLOSE)],
    [EnginePacket(EngineType.PONG, b"probe"), EnginePacket(EngineType.MESSAGE, "\N{EURO SIGN}".encode())],
]

# What our encoder writes, and the packet that it is for a client: type, namespace, id, data.
SENT: list[tuple[Sequence[Message], tuple[int, str, int | None, Any]]] = [
    ([Message(socketio_encoder.event("a", b'{"b":1}', offset="7"))], (2, "/", None, ["a", {"b": 1}, "7"])),
    ([Message(socketio_encoder.event("a", b"", namespace="/n", id=3))], (2, "/n", 3, ["a"])),
    ([Message(socketio_encoder.ack(12, b'1,"b"', namespace="/n"))], (3, "/n", 12, [1, "b"])),
    ([Message(socketio_encoder.ack(0))], (3, "/", 0, [])),
    ([Message(socketio_encoder.connected("s", "p", namespace="/n"))], (0, "/n", None, {"sid": "s", "pid": "p"})),
    ([Message(socketio_encoder.connect_error("no", b"[1]"))], (4, "/", None, {"message": "no", "data": [1]})),
    ([Message(socketio_encoder.disconnected(namespace="/n"))], (1, "/n", None, None)),
    (socketio_encoder.binary_event("a", b"\x01", offset="7"), (2, "/", None, ["a", {"base64": "AQ=="}, "7"])),
    (socketio_encoder.binary_event("a", b"", namespace="/n", id=3), (2, "/n", 3, ["a", {"base64": ""}])),
]

# What the encoder of the reference is to write.
ENCODE: list[dict[str, Any]] = [
    {"type": 0, "nsp": "/"},
    {"type": 0, "nsp": "/n", "data": {"token": "\N{EURO SIGN}"}},
    {"type": 1, "nsp": "/n"},
    {"type": 2, "nsp": "/", "data": ["a", 1, None, "\u2028\x1e\n"]},
    {"type": 2, "nsp": "/n", "id": 12, "data": ["a", {"base64": "AP8="}]},
    {"type": 2, "nsp": "/", "data": ["a", {"base64": ""}, {"b": {"base64": "AQ=="}}]},
    {"type": 3, "nsp": "/n", "id": 0, "data": []},
    {"type": 3, "nsp": "/", "id": 5, "data": [{"base64": "AQ=="}, "b"]},
]


def wrapped(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def unwrapped(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) and value.keys() == {"base64"} else value


@cache
def reference() -> dict[str, Any]:
    """The answers of the reference to all of it, from one process."""
    ours = [[data if binary else data[1:].decode() for data, binary in messages] for messages, _ in SENT]
    asked = {
        "decode": [
            [wrapped(each) if isinstance(each, bytes) else each for each in messages] for messages in CONNECTIONS + ours
        ],
        "encode": ENCODE,
        "messages": MESSAGES,
        "bodies": [wrapped(body) for body in BODIES],
        "write": [[as_engine(packet) for packet in packets] for packets in WRITTEN],
    }
    command = [need_node(), str(SDK_FOLDER / "parsers.mjs")]
    done = subprocess.run(command, input=json.dumps(asked).encode(), stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == 0
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def as_engine(packet: EnginePacket) -> dict[str, Any]:
    """A packet of Engine.IO as the reference has it."""
    name = packet.type.name.lower()
    if packet.binary:
        return {"type": name, "data": wrapped(packet.data)}
    return {"type": name, "data": packet.data.decode()} if packet.data else {"type": name}


def as_socket(packet: SocketPacket) -> dict[str, Any]:
    """A packet of Socket.IO as the reference has it."""
    match packet:
        case SocketConnect(namespace, auth):
            return {"type": 0, "nsp": namespace} | ({"data": json.loads(auth)} if auth else {})
        case SocketDisconnect(namespace):
            return {"type": 1, "nsp": namespace}
        case SocketEvent(namespace, name, arguments, id):
            shown = {"type": 2, "nsp": namespace, "data": [name, *map(value_of, arguments)]}
            return shown if id is None else shown | {"id": id}
        case SocketAck(namespace, id, arguments):
            return {"type": 3, "nsp": namespace, "id": id, "data": [*map(value_of, arguments)]}


def value_of(argument: Argument) -> Any:
    return wrapped(argument.data) if argument.kind is Kind.BINARY else json.loads(argument.data)


def without_differences(packet: dict[str, Any]) -> dict[str, Any]:
    """A packet of the reference, with the values that we have in their place."""
    shown = dict(packet)
    shown["nsp"] = packet["nsp"].partition("?")[0]
    # Nobody reads them.
    if packet["type"] in (0, 1):
        shown.pop("id", None)
    if "data" in shown:
        shown["data"] = whole(shown["data"])
    return shown


def whole(value: Any) -> Any:
    """A value with U+FFFD for halves of characters."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
    if isinstance(value, list):
        return [whole(each) for each in value]
    return {whole(key): whole(each) for key, each in value.items()} if isinstance(value, dict) else value


def read(messages: Sequence[str | bytes]) -> tuple[list[dict[str, Any]], str, bool]:
    """What we make of the messages of a connection: packets, why it ended, and whether buffers are left out."""
    assembler = Assembler(1_000_000)
    packets = []
    mixed = False
    try:
        for message in messages:
            data = message if isinstance(message, bytes) else message.encode()
            if packet := assembler.add(data, binary=isinstance(message, bytes)):
                packets.append(as_socket(packet))
                mixed |= any(argument.holds_buffers for argument in getattr(packet, "arguments", ()))
    except Disconnect as error:
        return packets, error.detail, mixed
    return packets, "", mixed


def difference(message: str, refusal: str) -> Difference | None:
    """The first one that stands above and explains it."""
    for each in STRICTER:
        if re.search(each.says, refusal) and re.match(each.input, message, re.DOTALL):
            return each
    return None


def test_packets_are_read_as_the_reference_reads_them() -> None:
    """Or refused where the list of differences says so; each of those occurs."""
    answers = reference()["decoded"][: len(CONNECTIONS)]
    seen: set[Difference | None] = set()
    wrong: list[Any] = []
    accepted = 0
    for messages, answer in zip(CONNECTIONS, answers, strict=True):
        packets, refusal, mixed = read(messages)
        if refusal and "error" not in answer:
            seen.add(found := difference(str(messages[0]), refusal))
            if found is None:
                wrong.append((messages, answer, refusal))
        elif bool(refusal) != ("error" in answer) or not (mixed or alike(packets, answer["packets"])):
            wrong.append((messages, answer, (packets, refusal)))
        else:
            accepted += not refusal
    assert wrong == []
    assert seen == set(STRICTER)
    assert accepted > 150


def alike(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    """Whether packets are the same; names that are numbers, by their value."""
    expected = [without_differences(packet) for packet in theirs]
    for packet, other in zip(ours, expected, strict=False):
        if packet["type"] == 2 and isinstance(other["data"][0], int | float):
            packet["data"][0] = float(packet["data"][0])
    return ours == expected


def test_the_reference_reads_what_we_send() -> None:
    answers = reference()["decoded"][len(CONNECTIONS) :]
    for answer, (_, (type, namespace, id, data)) in zip(answers, SENT, strict=True):
        assert "error" not in answer
        (packet,) = answer["packets"]
        assert (packet["type"], packet["nsp"], packet.get("id"), packet.get("data")) == (type, namespace, id, data)


def test_we_read_what_the_reference_sends() -> None:
    """A buffer within JSON is left to its sender, see `attachments`."""
    for packet, encoded in zip(ENCODE, reference()["encoded"], strict=True):
        packets, refusal, mixed = read([unwrapped(each) for each in encoded])
        assert refusal == ""
        if mixed:
            assert packets[0]["data"][1:] == [{"base64": ""}, {"b": {"_placeholder": True, "num": 1}}]
        else:
            assert packets == [packet]


# Where the reference reads something out of base64 that is none, or out of bytes that are not UTF-8.
GUESSED = {"bQ", "bQQ", "bQQ==x", "b-_-_"}
GUESSED_BODIES = {b"4\xff", b"4a\x1ebQ"}


def test_engine_messages_are_read_as_the_reference_reads_them() -> None:
    for text, answer in zip(MESSAGES, reference()["messages"], strict=True):
        try:
            ours = as_engine(engineio_packets.decode(text.encode(), binary=False))
        except Disconnect:
            ours = {"type": "error"}
        assert (ours["type"] == "error") == (answer["type"] == "error" or text in GUESSED), text
        assert answer["type"] == "error" or text in GUESSED or ours == answer, text


def test_bodies_are_read_as_the_reference_reads_them() -> None:
    """Up to the first packet that is none."""
    for body, answer in zip(BODIES, reference()["bodies"], strict=True):
        ours: list[dict[str, Any]] = []
        try:
            ours.extend(
                as_engine(engineio_packets.decode(packet, binary=False))
                for packet in engineio_packets.split_body(body, 1000)
            )
        except Disconnect:
            ours.append({"type": "error", "data": "parser error"})
        assert (ours == answer) == (body not in GUESSED_BODIES), body


def test_bodies_are_written_as_the_reference_writes_them() -> None:
    for packets, written in zip(WRITTEN, reference()["written"], strict=True):
        messages = [engineio_packets.encode(packet) for packet in packets]
        assert engineio_packets.as_answer(engineio_packets.encode_body(messages)) == written.encode()
