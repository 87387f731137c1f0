"""Decodes what clients of the native protocol send: commands, one JSON object per line.

Payloads are never parsed into Python objects: they are taken as raw JSON.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from gateway.errors import BAD_COMMAND, Disconnect
from gateway.json_text import TOO_DEEP, compact, is_too_deep, mended
from gateway.messages import Call, Connect, Publish, Request, UnknownFields, Unsupported
from gateway.protocols.centrifuge_requests import (
    MAKERS,
    CallBody,
    ChannelBody,
    Command,
    ConnectBody,
    HistoryBody,
    Makers,
    PingBody,
    PublishBody,
    RefreshBody,
    SinceBody,
    SubRefreshBody,
    SubscribeBody,
    connect_of,
    request_of,
    subscribe_of,
    unsupported_in,
)


def _exact(kind: type[msgspec.Struct], **fields: Any) -> type[msgspec.Struct]:
    """The same type, but names that are none of its fields are an error. `fields` get other types."""
    optional = [(name, type_ | None, None) for name, type_ in fields.items()]
    return msgspec.defstruct(kind.__name__, optional, bases=(kind,), forbid_unknown_fields=True)


def _exact_command() -> type[msgspec.Struct]:
    subscribe, of_channel, call = _exact(SubscribeBody), _exact(ChannelBody), _exact(CallBody)
    return _exact(
        Command,
        connect=_exact(ConnectBody, subs=Mapping[str, subscribe | None]),  # type: ignore[valid-type]  # made above
        subscribe=subscribe,
        unsubscribe=of_channel,
        publish=_exact(PublishBody),
        presence=of_channel,
        presence_stats=of_channel,
        history=_exact(HistoryBody, since=_exact(SinceBody)),
        ping=_exact(PingBody),
        send=call,
        rpc=call,
        refresh=_exact(RefreshBody),
        sub_refresh=_exact(SubRefreshBody),
    )


# Nearly all commands have only names that are defined. To tell the others apart costs nothing that way.
_decode_exactly: Callable[[bytes], Command] = msgspec.json.Decoder[Any](_exact_command()).decode
_decode_line = msgspec.json.Decoder(Command).decode
_decode_connect = msgspec.json.Decoder(ConnectBody).decode
# The gap between two commands: nowhere else in JSON do `}`, a line break and `{` follow, since strings hold no raw one.
_BETWEEN = re.compile(rb"(?<=\})[ \t\r]*\n[ \t\r\n]*(?=\{)")


def decode(data: bytes) -> Sequence[Request]:
    """The request in one command, after UnknownFields if it has some. Raises Disconnect(3501) for anything else."""
    is_exact = True
    try:
        try:
            command = _decode_exactly(data)
        except msgspec.DecodeError:
            command, is_exact = _decode_again(data)
    except RecursionError:
        raise Disconnect(BAD_COMMAND, TOO_DEEP) from None
    except ValueError as error:
        # From the decoder, or because the text is not UTF-8.
        raise Disconnect(BAD_COMMAND, str(error)) from None
    if is_too_deep(data):
        raise Disconnect(BAD_COMMAND, TOO_DEEP)
    request = request_of(command, _MAKERS)
    return (request,) if is_exact else (UnknownFields(), request)


def decode_connect(data: bytes) -> Connect:
    """A ConnectRequest by itself, as unidirectional clients send it. Raises Disconnect(3501) for anything else."""
    try:
        body = _decode_connect(data)
    except RecursionError:
        raise Disconnect(BAD_COMMAND, TOO_DEEP) from None
    except ValueError as error:
        raise Disconnect(BAD_COMMAND, str(error)) from None
    if is_too_deep(data):
        raise Disconnect(BAD_COMMAND, TOO_DEEP)
    return _connect(1, body)


def cut(data: bytes, start: int) -> tuple[bytes, int]:
    """The command that begins at `start` of a frame, and where the next one begins: the end, after the last one."""
    between = _BETWEEN.search(data, start) if data.find(b"\n", start) >= 0 else None
    return (data[start:], len(data)) if between is None else (data[start : between.start()], between.end())


def _decode_again(data: bytes) -> tuple[Command, bool]:
    """A command that is not as it should be, and whether it has only names that the protocol defines.

    Raises ValueError and RecursionError.
    """
    whole = mended(data)
    if whole != data:
        with suppress(msgspec.ValidationError):
            return _decode_exactly(whole), True
    return _decode_line(whole), False


def _connect(id: int, body: ConnectBody) -> Connect:
    return connect_of(id, body, _optional(body.data), _text(body.name), _text(body.version))


def _publish(id: int, body: PublishBody) -> Publish | Unsupported:
    return unsupported_in(id, body) or Publish(id, body.channel or "", compact(bytes(body.data)))


_MAKERS: Makers = {
    **MAKERS,
    "connect": _connect,
    "subscribe": lambda id, body: subscribe_of(id, body, _optional(body.data)),
    "publish": _publish,
    "rpc": lambda id, body: Call(id, body.method or "", compact(bytes(body.data))),
    "send": lambda id, body: Call(id, "", compact(bytes(body.data))),
}


def _optional(value: msgspec.Raw) -> bytes:
    """A JSON text; empty for an absent value and for null."""
    text = bytes(value)
    return b"" if text == b"null" else compact(text)


def _text(value: msgspec.Raw) -> str:
    """The text of a field that only informs; empty for anything else."""
    text = bytes(value)
    if text[:1] != b'"':
        return ""
    try:
        return str(msgspec.json.decode(text))
    except ValueError:
        return ""
