"""Decodes a client's messages into requests. Anything outside its protocol closes the connection."""

from collections.abc import Sequence

from gateway import errors
from gateway.errors import Disconnect
from gateway.messages import UnknownFields
from gateway.session.inbox import Frame, Work
from gateway.session.session import Session


def read(session: Session, frame: Frame) -> Sequence[Work]:
    """The requests of a frame's next command; none when it closed the connection or is incomplete."""
    try:
        command, frame.at = session.codec.cut(frame.data, frame.at)
    except Disconnect as error:
        session.refuse(error)
    except Exception:
        session.fail("decode")
    else:
        return decode(session, command, frame.binary)
    return ()


def decode(session: Session, command: bytes, binary: bool) -> Sequence[Work]:
    """The requests of one command; none in the same cases as `read`."""
    try:
        if len(command) > session.services.limits.message_size:
            raise Disconnect(errors.MESSAGE_TOO_BIG, "limits.message_size")
        requests = session.codec.decode(command, binary=binary)
        if requests and type(requests[0]) is UnknownFields:
            session.services.metrics.unknown_fields.add()
            return requests[1:]
        return requests
    except Disconnect as error:
        session.refuse(error)
    except Exception:
        session.fail("decode")
    return ()
