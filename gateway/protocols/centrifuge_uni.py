"""The unidirectional variant of the native protocol: the client sends one ConnectRequest and then only listens.

Messages are Push objects, one per line, without the Reply around them; the first one is `{"connect": {...}}`.
"""

from collections.abc import Sequence
from typing import NoReturn

import msgspec

from gateway import errors
from gateway.errors import CloseCode, Disconnect, ErrorCode, UnsubscribeCode
from gateway.messages import ConnectResult, Event, Publication, Request, SubscribeResult
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.centrifuge_commands import decode_connect
from gateway.protocols.one_channel import CLOSE_CODES
from gateway.protocols.wire_protocol import Heartbeat, Message

_PUSH = b'{"push":'
_REPLY = b'{"id":1,'


class UniCentrifugeProtocol(CentrifugeProtocol):
    """The pushes of the native protocol, without what is around them. Stateless, as that one."""

    heartbeat = Heartbeat.ONE_WAY

    def open(self) -> "UniCentrifugeProtocol":
        return self

    def count(self, data: bytes) -> int:
        return 1

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        return data, len(data)

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        """The connect request. A second one is refused by the session. Raises Disconnect(3501) for anything else."""
        if binary:
            raise Disconnect(errors.BAD_COMMAND, "binary frame on a JSON connection")
        return (decode_connect(command),)

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        (reply,) = super().connected(1, msgspec.structs.replace(result, pong=False))
        return (Message(b"{" + reply.data.removeprefix(_REPLY)),)

    def failed(self, id: int, error: ErrorCode) -> NoReturn:
        """Raises Disconnect: there are no replies. The reason is the error's."""
        raise Disconnect(CLOSE_CODES.get(error, errors.BAD_COMMAND)._replace(reason=error.message))

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        return _bare(super().events(events))

    def events_after(self, base: Publication | None, events: Sequence[Event]) -> Sequence[Message]:
        return _bare(super().events_after(base, events))

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        # The publications after the push are bare already.
        push, *missed = super().push_subscribe(channel, result)
        return (*_bare((push,)), *missed)

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        return _bare(super().push_unsubscribe(channel, code))

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        return _bare(super().push_refresh(ttl))

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        return _bare(super().goodbye(code, is_told=is_told))


def _bare(messages: Sequence[Message]) -> Sequence[Message]:
    """Each line without `{"push":` and the brace that closes it."""
    return [Message(b"\n".join(map(_push, message.data.split(b"\n")))) for message in messages]


def _push(line: bytes) -> bytes:
    return line.removeprefix(_PUSH)[:-1]
