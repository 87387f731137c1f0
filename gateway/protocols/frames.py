"""Replies and pushes of the native protocol share frames, whatever encodes them."""

from collections.abc import Iterable, Sequence

from gateway.protocols.wire_protocol import Message

# Bytes above which publications are split into several frames: clients limit the size of one message (python-websockets
# to 1 MiB), and a single publication may have 64 KiB.
FRAME_LIMIT = 64 * 1024


def frames(pieces: Iterable[bytes], separator: bytes, *, binary: bool) -> Sequence[Message]:
    """Join pieces into as few frames as their size allows."""
    done: list[Message] = []
    frame: list[bytes] = []
    size = 0
    for piece in pieces:
        if frame and size + len(piece) > FRAME_LIMIT:
            done.append(Message(separator.join(frame), binary))
            frame, size = [], 0
        frame.append(piece)
        size += len(piece) + len(separator)
    done.append(Message(separator.join(frame), binary))
    return done
