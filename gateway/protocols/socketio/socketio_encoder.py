"""Encodes what a Socket.IO server sends: Engine.IO messages, with the `4` in front of what is text.

All of it is one join or one `%`, without a look at the payload: publications are spliced into it as they are.
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from gateway.messages import Kind, Publication
from gateway.protocols.payload import as_json
from gateway.protocols.socketio.socketio_packets import DEFAULT_NAMESPACE
from gateway.protocols.wire_protocol import Message

# Characters of a name up to which the beginnings of its events are kept. An event may have the name that a publisher
# gave it, and longer ones would let publishers fill the cache with what they like.
_KEPT_NAME = 128
_KEPT = 1024

_PLACEHOLDER = b'{"_placeholder":true,"num":0}'


def event(
    name: str, arguments: bytes, *, namespace: str = DEFAULT_NAMESPACE, id: int | None = None, offset: str = ""
) -> bytes:
    """An event: `42/nsp,12["name",<arguments>,"offset"]`.

    `arguments` is JSON: one, several between commas, or empty for none. With an id the client acknowledges the event.
    The offset is what the client continues from after a reconnect. It takes the last argument for one if that is a
    string, whatever it is: a connection with a `pid` needs an offset in every event, or an end that is no string.
    """
    head = _head(b"42", namespace, name) if id is None else _head_with_id(b"42", namespace, name, id)
    return _closed(head, arguments, offset)


def binary_event(
    name: str, data: bytes, *, namespace: str = DEFAULT_NAMESPACE, id: int | None = None, offset: str = ""
) -> Sequence[Message]:
    """An event with one buffer: its packet, and the buffer, which has to follow at once.

    It has no other arguments: a placeholder in JSON of a publisher would be one here, and end the client's connection.
    """
    head = _head(b"451-", namespace, name) if id is None else _head_with_id(b"451-", namespace, name, id)
    return Message(_closed(head, _PLACEHOLDER, offset)), Message(data, binary=True)


def published(
    publication: Publication, name: str, *, namespace: str = DEFAULT_NAMESPACE, offset: str = ""
) -> Sequence[Message]:
    """A publication as an event whose one argument is the payload: a value, a string, or a buffer."""
    if publication.kind is Kind.BINARY:
        return binary_event(name, publication.data, namespace=namespace, offset=offset)
    return (Message(event(name, as_json(publication), namespace=namespace, offset=offset)),)


def ack(id: int, arguments: bytes = b"", *, namespace: str = DEFAULT_NAMESPACE) -> bytes:
    """The acknowledgement of a client's event. `arguments` as in `event`."""
    return b"%b%d[%b]" % (_prefix(b"43", namespace), id, arguments)


def connected(sid: str, pid: str = "", *, namespace: str = DEFAULT_NAMESPACE) -> bytes:
    """The answer to a CONNECT: the public id of the socket; with a private one, the client tries to continue later."""
    ids = {"sid": sid, "pid": pid} if pid else {"sid": sid}
    return _prefix(b"40", namespace) + msgspec.json.encode(ids)


def connect_error(message: str, data: bytes = b"", *, namespace: str = DEFAULT_NAMESPACE) -> bytes:
    """The refusal of a CONNECT, after which clients do not try again. `data` is JSON; empty for none."""
    more = b',"data":' + data if data else b""
    return b'%b{"message":%b%b}' % (_prefix(b"44", namespace), msgspec.json.encode(message), more)


def disconnected(*, namespace: str = DEFAULT_NAMESPACE) -> bytes:
    """The server ends a namespace for good. A client whose transport is closed instead reconnects."""
    return _prefix(b"41", namespace)


def _closed(head: bytes, arguments: bytes, offset: str) -> bytes:
    """The array of an event, from a head that ends in a comma."""
    if offset:
        # A string is valid JSON, and may have a quote in it.
        last = msgspec.json.encode(offset)
        return b"".join((head, arguments, b",", last, b"]") if arguments else (head, last, b"]"))
    return b"".join((head, arguments, b"]")) if arguments else head[:-1] + b"]"


def _head(type: bytes, namespace: str, name: str) -> bytes:
    """The beginning of an event, up to its first argument: `42/nsp,["name",`."""
    return (_kept_head if len(name) <= _KEPT_NAME else _made_head)(type, namespace, name)


def _head_with_id(type: bytes, namespace: str, name: str, id: int) -> bytes:
    return b"%b%d[%b," % (_prefix(type, namespace), id, msgspec.json.encode(name))


def _made_head(type: bytes, namespace: str, name: str) -> bytes:
    return b"%b[%b," % (_prefix(type, namespace), msgspec.json.encode(name))


_kept_head = lru_cache(maxsize=_KEPT)(_made_head)


@lru_cache(maxsize=_KEPT)
def _prefix(type: bytes, namespace: str) -> bytes:
    """The beginning of a packet. The default namespace has no name on the wire."""
    return type if namespace == DEFAULT_NAMESPACE else b"%b%b," % (type, namespace.encode())
