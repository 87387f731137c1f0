"""What waits for a client that reads too slowly, bounded in bytes."""

from collections.abc import Callable


class Outbox:
    """Takes the frames of a congested connection in order. Exists only while it is congested."""

    __slots__ = ("_frames", "_limit", "_overflow", "size")

    def __init__(self, limit: int, overflow: Callable[[], object]) -> None:
        """`overflow` is called once, when a frame would exceed `limit` bytes; from then on everything is dropped."""
        self._frames: list[bytes] | None = []
        self._limit = limit
        self._overflow = overflow
        self.size = 0

    @property
    def overflowed(self) -> bool:
        """Frames were dropped: no other may follow them."""
        return self._frames is None

    def shed(self) -> None:
        """Overflow now: others need the memory."""
        if self._frames is not None:
            self._frames = None
            self.size = 0
            self._overflow()

    def write(self, frame: bytes) -> None:
        if self._frames is None:
            return
        self.size += len(frame)
        if self.size <= self._limit:
            self._frames.append(frame)
            return
        self.shed()

    def take(self) -> bytes:
        """All that waits, as one block; the outbox is empty afterwards."""
        if not self._frames:
            return b""
        block = b"".join(self._frames)
        self._frames = []
        self.size = 0
        return block
