"""Whole messages out of a body that comes in pieces: lines, or server-sent events."""

from gateway_loadtest.wires.contract import LARGEST


class Cutter:
    """Messages that end with a separator."""

    __slots__ = ("_end", "_rest")

    def __init__(self, end: bytes) -> None:
        self._end = end
        self._rest = bytearray()

    def cut(self, piece: bytes) -> bytes:
        """All messages that end in this piece, without the last separator; empty if there is none.

        Raises ValueError for a message of more than LARGEST bytes.
        """
        end, rest = self._end, self._rest
        if not rest and piece.endswith(end):
            # By far the most frequent: servers write whole messages.
            return piece[: -len(end)]
        # A separator may have come in part.
        start = max(len(rest) - len(end) + 1, 0)
        rest += piece
        at = rest.rfind(end, start)
        whole = b""
        if at >= 0:
            whole = bytes(rest[:at])
            del rest[: at + len(end)]
        if len(rest) > LARGEST:
            raise ValueError(f"a message of more than {LARGEST} bytes")
        return whole


class EventCutter:
    """Server-sent events with any of their three line ends (WHATWG HTML section 9.2.5), as lines that end with LF."""

    __slots__ = ("_cutter", "_is_after_cr")

    def __init__(self) -> None:
        self._cutter = Cutter(b"\n\n")
        self._is_after_cr = False

    def cut(self, piece: bytes) -> bytes:
        """As in Cutter; events have an empty line in between."""
        if self._is_after_cr and piece:
            # The CR counted as a line's end already.
            piece = piece.removeprefix(b"\n")
            self._is_after_cr = False
        if b"\r" in piece:
            self._is_after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self._cutter.cut(piece)


def data_of(events: bytes) -> bytes:
    """The data of events, a line for each line."""
    if events.startswith(b"data: ") and b"\n" not in events:
        return events[6:]
    lines = (line[5:].removeprefix(b" ") for line in events.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(lines)
