"""What waits for congested clients, bounded in bytes for each."""

from collections.abc import Callable, Hashable, Iterator

# Bytes that a block takes besides its content: the object, and its entry among the blocks that wait.
BLOCK_OVERHEAD = 128
# Bytes that an outbox takes for each block that waits in it.
POINTER = 8
# Blocks of an outbox that are sampled to estimate its share of the memory.
SAMPLE = 32


class Outboxes:
    """The outboxes of a node, and the memory they take together: a block that waits for many clients counts once."""

    def __init__(self) -> None:
        self._all: set[Outbox] = set()
        # How many times each block waits, by its identity: equal blocks are not the same memory.
        self._uses: dict[int, int] = {}
        # Bytes of memory.
        self.held = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator["Outbox"]:
        return iter(self._all)

    def open(self, limit: int, payer: Hashable, overflow: Callable[[str], object]) -> "Outbox":
        """Open an outbox for a client that has become congested; the arguments are those of Outbox."""
        outbox = Outbox(self, limit, payer, overflow)
        self._all.add(outbox)
        return outbox

    def close(self, outbox: "Outbox") -> None:
        """Drop an outbox, and what still waits in it: the client has caught up, or is gone."""
        outbox.take()
        self._all.discard(outbox)

    def hold(self, block: bytes) -> None:
        uses = self._uses.get(id(block), 0)
        self._uses[id(block)] = uses + 1
        self.held += POINTER if uses else len(block) + BLOCK_OVERHEAD + POINTER

    def release(self, block: bytes) -> None:
        uses = self._uses[id(block)] - 1
        if uses:
            self._uses[id(block)] = uses
            self.held -= POINTER
        else:
            del self._uses[id(block)]
            self.held -= len(block) + BLOCK_OVERHEAD + POINTER

    def part(self, block: bytes) -> float:
        """A block's bytes of memory, divided by the number of times that it waits."""
        return POINTER + (len(block) + BLOCK_OVERHEAD) / self._uses[id(block)]


class Outbox:
    """Takes the frames of a congested connection in order. Exists only while it is congested.

    A Holder of the budget.
    """

    __slots__ = ("_frames", "_limit", "_outboxes", "_overflow", "payer", "size")

    concerned = 1

    def __init__(self, outboxes: Outboxes, limit: int, payer: Hashable, overflow: Callable[[str], object]) -> None:
        """`overflow` is called once, with the setting that was exceeded; from then on everything is dropped."""
        self._outboxes = outboxes
        self._frames: list[bytes] | None = []
        self._limit = limit
        self._overflow = overflow
        self.payer = payer
        # What the client has yet to read, in bytes.
        self.size = 0

    @property
    def overflowed(self) -> bool:
        """Frames were dropped: no other may follow them."""
        return self._frames is None

    @property
    def held(self) -> int:
        """Its share of the memory, which is less than its size if blocks also wait for other clients."""
        if not self._frames:
            return 0
        sample = self._frames[:: -(-len(self._frames) // SAMPLE)]
        return int(sum(map(self._outboxes.part, sample)) * len(self._frames) / len(sample))

    def shed(self) -> None:
        """Drop everything: others need the memory."""
        if self._frames is not None:
            self._drop("limits.waiting")

    def _drop(self, setting: str) -> None:
        self.take()
        self._frames = None
        self._overflow(setting)

    def write(self, frame: bytes) -> None:
        if self._frames is None:
            return
        if self.size + len(frame) > self._limit:
            self._drop("limits.outbox")
            return
        self.size += len(frame)
        self._frames.append(frame)
        self._outboxes.hold(frame)

    def take(self) -> bytes:
        """All that waits, as one block; the outbox is empty afterwards."""
        if not self._frames:
            return b""
        frames, self._frames, self.size = self._frames, [], 0
        block = b"".join(frames)
        for frame in frames:
            self._outboxes.release(frame)
        return block
