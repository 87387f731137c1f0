"""What somebody who may write to Redis puts there, and no node would."""

from typing import Any

import msgspec

from gateway.broker import envelope
from gateway.broker.redis.control_messages import REQUEST
from gateway.control import DisconnectUser
from gateway.messages import DEFAULT_APP, Channel, Publication

_ANY = Channel(DEFAULT_APP, "room")


def _member(**fields: Any) -> bytes:
    info = ["u", "c", fields.get("conn_info", b""), fields.get("chan_info", b"")]
    return msgspec.msgpack.encode([info, fields.get("time", 0)])


# Bodies of publications, in streams and behind the head of a message.
BAD_ENTRIES = {
    "another version": b"\xc1",
    "text that is not UTF-8": msgspec.msgpack.encode([1, b"\xff", 0, None, None, "", "", 0]),
    "JSON that is none": msgspec.msgpack.encode([0, b'1},"push":{', 0, None, None, "", "", 0]),
    "JSON with a line break": msgspec.msgpack.encode([0, b"[1,\n2]", 0, None, None, "", "", 0]),
    "JSON that nests too deep": msgspec.msgpack.encode([0, b"[" * 129 + b"]" * 129, 0, None, None, "", "", 0]),
    "info that is none": msgspec.msgpack.encode([0, b"1", 0, ["u", "c", b'1},"x":{', b""], None, "", "", 0]),
    "a time that is none": msgspec.msgpack.encode([0, b"1", "now", None, None, "", "", 0]),
}
# Messages on the bus channel of a channel.
BAD_MESSAGES = {
    **{f"publication: {name}": envelope.HEAD + b";" + body for name, body in BAD_ENTRIES.items()},
    "nothing": b"",
    "no position": envelope.HEAD + b"1:e" + b"x" * 100,
    "a position without end": envelope.HEAD + b"9" * 100 + b":e;" + envelope.encode(Publication(_ANY, b"1")),
    "an offset out of range": envelope.HEAD + b"9223372036854775808:e;" + envelope.encode(Publication(_ANY, b"1")),
    "a join with forged info": envelope.JOIN + _member(conn_info=b'{}},"x":{"y":{}'),
    "a leave with a line break": envelope.LEAVE + _member(chan_info=b"[\n]"),
    "a join that is none": envelope.JOIN + b"\xa2\xff\xfe",
}
_DISCONNECT = msgspec.msgpack.encode((1, "x", DisconnectUser(DEFAULT_APP, "42")))
# What begins a control message that is in no log.
UNLOGGED = REQUEST + b" "
# Messages on the channels for control.
BAD_CONTROL = {
    "nothing": b"",
    "no position": REQUEST,
    "a position that is none": REQUEST + b"newest " + _DISCONNECT,
    "a position without end": REQUEST + b"9" * 100_000 + b"-1 " + _DISCONNECT,
    "a name that is not UTF-8": UNLOGGED + b"\x93\x01\xa2\xff\xfe\x90",
    "a code of 32 bits": UNLOGGED + msgspec.msgpack.encode((1, "x", DisconnectUser(DEFAULT_APP, "42", code=2**31))),
    "a code of transports": UNLOGGED + msgspec.msgpack.encode((1, "x", DisconnectUser(DEFAULT_APP, "42", code=1000))),
    "data that is no JSON": UNLOGGED
    + msgspec.msgpack.encode(
        (1, "x", {"type": "subscribe", "app": DEFAULT_APP, "user": "42", "channel": "room", "data": b'1},"x":{'})
    ),
    "data with a line break": UNLOGGED
    + msgspec.msgpack.encode(
        (
            1,
            "x",
            {"type": "subscribe", "app": DEFAULT_APP, "user": "42", "channel": "room", "data": b'{"a":\n{"push":{}}}'},
        )
    ),
    "a position before the first": UNLOGGED
    + msgspec.msgpack.encode(
        (1, "x", {"type": "subscribe", "app": DEFAULT_APP, "user": "42", "channel": "room", "since": [-5, "e"]})
    ),
    "a time before time": UNLOGGED
    + msgspec.msgpack.encode((1, "x", {"type": "refresh", "app": DEFAULT_APP, "user": "42", "expire_at": -1})),
    # It would revoke all tokens of the user.
    "a kick from no channel": UNLOGGED
    + msgspec.msgpack.encode((1, "x", {"type": "kick", "app": DEFAULT_APP, "user": "42", "channel": ""})),
    "nested without end": UNLOGGED + b"\x91" * 100_000,
}
