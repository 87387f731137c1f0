"""The format of a publication on the bus and in the stream.

    version (1 byte) | type (1 byte) | position (ASCII `offset:epoch`, empty without history) | `;` | body

Joins and leaves have no position and no `;`. The body is a msgpack array. The position comes before it in plain text,
so that the script that assigns offsets can add it without reading the body. Another version means another format of the
body. A node that cannot read a message counts it and continues, so that nodes of two versions can run side by side
during an update. The part before the body is the same in all versions.

Anybody with access to Redis can write anything. Decoding therefore checks whatever other code depends on: data that is
spliced into frames is one JSON value or one text, so that nobody can forge a message of another channel.
"""

import msgspec

from gateway.errors import GatewayError
from gateway.json_text import check_line
from gateway.messages import Channel, ClientInfo, Event, Kind, Membership, Position, Publication

VERSION = b"\x01"
PUBLICATION = b"p"
HEAD = VERSION + PUBLICATION
JOIN = VERSION + b"j"
LEAVE = VERSION + b"l"

# An epoch is short (20 characters) and an offset has 19 digits at most.
MAX_POSITION = 64


class EnvelopeError(GatewayError):
    """A message on the bus, or data in Redis, that this version cannot read."""


class _Member(msgspec.Struct, frozen=True, gc=False, array_like=True):
    info: ClientInfo
    time: int


class _Body(msgspec.Struct, frozen=True, gc=False, array_like=True):
    kind: Kind
    data: bytes
    time: int
    info: ClientInfo | None
    tags: dict[str, str] | None
    event: str
    exclude_client: str
    version: int


_encode = msgspec.msgpack.Encoder().encode
_decode_member = msgspec.msgpack.Decoder(_Member).decode
_decode = msgspec.msgpack.Decoder(_Body).decode


def encode(publication: Publication) -> bytes:
    """The body of a publication, which does not contain its channel and position."""
    return _encode(
        _Body(
            publication.kind,
            publication.data,
            publication.time,
            publication.info,
            publication.tags,
            publication.event,
            publication.exclude_client,
            publication.version,
        )
    )


def live(publication: Publication) -> bytes:
    """The whole message of a publication without a position."""
    return HEAD + b";" + encode(publication)


def encode_member(info: ClientInfo, time: int) -> bytes:
    """The body of a join or leave; `time` in Unix milliseconds."""
    return _encode(_Member(info, time))


def decode_member(body: bytes) -> ClientInfo:
    """The member in the body of a join or leave. Raises EnvelopeError."""
    return _member(body).info


def decode(channel: Channel, message: bytes) -> Event:
    """The event in a message of the bus. Raises EnvelopeError."""
    if message.startswith((JOIN, LEAVE)):
        member = _member(message[len(JOIN) :])
        return Membership(channel, member.info, message.startswith(JOIN), member.time)
    if not message.startswith(HEAD):
        raise EnvelopeError(f"version or type {message[:2]!r} instead of {HEAD!r}")
    end = message.find(b";", 2, 2 + MAX_POSITION)
    if end < 0:
        raise EnvelopeError("no end of the position")
    try:
        offset, epoch = _position(message[2:end]) if end > 2 else (0, "")
    except ValueError as error:
        raise EnvelopeError(str(error)) from None
    return decode_body(channel, message[end + 1 :], offset, epoch)


def decode_position(offset: bytes, epoch: bytes) -> Position:
    """A position in an answer of Redis; offset 0 is before the first publication. Raises EnvelopeError."""
    if offset == b"0" and len(epoch) <= MAX_POSITION and epoch.isascii():
        return Position(0, epoch.decode())
    try:
        return Position(*_position(offset + b":" + epoch))
    except ValueError as error:
        raise EnvelopeError(str(error)) from None


def _member(body: bytes) -> _Member:
    try:
        member = _decode_member(body)
        _check_info(member.info)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(str(error)) from None
    return member


def _check_info(info: ClientInfo) -> None:
    """Raises ValueError."""
    for text in (info.conn_info, info.chan_info):
        if text:
            check_line(text)


def decode_body(channel: Channel, body: bytes, offset: int, epoch: str) -> Publication:
    """The publication in a body of the stream. Raises EnvelopeError."""
    try:
        fields = _decode(body)
        if fields.kind is Kind.JSON:
            check_line(fields.data)
        elif fields.kind is Kind.TEXT:
            fields.data.decode()
        if fields.info is not None:
            _check_info(fields.info)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(str(error)) from None
    return Publication(
        channel,
        fields.data,
        fields.kind,
        offset,
        epoch,
        fields.time,
        fields.event,
        fields.tags,
        fields.info,
        fields.exclude_client,
        fields.version,
    )


def lies_in_stream(message: bytes) -> bool:
    """Whether a message of any version has a position, and is therefore in a stream."""
    return message[1:2] == PUBLICATION and message[2:3].isdigit()


def _position(text: bytes) -> tuple[int, str]:
    """Raises ValueError."""
    offset, colon, epoch = text.decode("ascii").partition(":")
    if not colon or not epoch or not offset.isdigit() or not 0 < int(offset) < 2**63 or len(text) > MAX_POSITION:
        raise ValueError(f"position {text[:MAX_POSITION]!r}")
    return int(offset), epoch
