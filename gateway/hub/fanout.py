"""One channel's subscribers on this node, and what still has to be written to them."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import length_hint
from sys import getsizeof
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec.structs import astuple

from gateway.hub.encoder import DeltaEncoder, Encoder
from gateway.messages import Destination, Event, Publication

Write = Callable[[bytes], object]
Encode = Callable[[], bytes]

# Bytes that an event takes besides its payload: the objects that carry it.
OVERHEAD = 256
# Most bytes of waiting events that are encoded at once, since encoding takes time too.
SLICE = 256 * 1024
# The same where a group packs them: 0.7 ms.
PACKED_SLICE = 64 * 1024


class Subscriber(Protocol):
    """A receiver of events."""

    @property
    def client(self) -> str: ...

    def write_failed(self) -> None:
        """The exception being handled kept a block from it. It must not leave the hub within this call."""


S = TypeVar("S", bound=Subscriber)


class Written(NamedTuple):
    """What was written: events times subscribers, and bytes."""

    deliveries: int
    size: int


class _Run(Generic[S]):
    """A block being written to the members that its group had when the events arrived.

    Encoded when its turn comes: a channel may have 16 groups that pack, and all at once take 30 ms for 64 KiB.
    """

    __slots__ = ("block", "cost", "encode", "events", "exclude", "left", "members", "next", "writes")

    def __init__(
        self,
        encode: Encode,
        cost: int,
        events: Sequence[Event],
        members: list[S],
        writes: dict[S, Write],
        exclude: str,
    ) -> None:
        """`cost`: of encoding, in writes."""
        self.encode = encode
        self.cost = cost
        # None until it is encoded.
        self.block: bytes | None = None
        self.events = events
        self.writes = writes
        self.exclude = exclude
        self.members = members
        self.next = 0
        # Members that have left since. One may have come back, but starts after this block.
        self.left: set[S] = set()


class _Backlog(Generic[S]):
    """Events that wait, and who joined meanwhile. Exists only while something waits: most channels never need one."""

    __slots__ = ("events", "passed", "size", "starts")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.size = 0
        # The number of events that no longer wait.
        self.passed = 0
        # Who joined while events waited -> how many have to pass before its first one; in this order.
        self.starts: OrderedDict[S, int] = OrderedDict()

    def add(self, events: Sequence[Event], limit: int) -> int:
        """Queue events; returns how many were dropped, oldest first, to keep within `limit` bytes."""
        self.events.extend(events)
        self.size += sum(map(footprint, events))
        dropped = 0
        while self.size > limit:
            self.size -= footprint(self.events.popleft())
            dropped += 1
        self.let_pass(dropped)
        return dropped

    def take(self, limit: int) -> list[Event]:
        """Take the oldest that go to the same members; call `let_pass` once these members are known.

        None follows those that together reach `limit` bytes.
        """
        most = next(iter(self.starts.values())) - self.passed if self.starts else len(self.events)
        exclude = self.events[0].exclude_client
        batch: list[Event] = []
        size = 0
        while len(batch) < most and size < limit and self.events and self.events[0].exclude_client == exclude:
            batch.append(self.events.popleft())
            size += footprint(batch[-1])
        self.size -= size
        return batch

    def let_pass(self, count: int) -> None:
        """The oldest `count` events no longer wait."""
        self.passed += count
        while self.starts and next(iter(self.starts.values())) <= self.passed:
            self.starts.popitem(last=False)


class Fanout(Generic[S]):
    """Delivery groups (encoder -> subscriber -> bound write), a backlog, and the runs in progress."""

    __slots__ = ("_backlog", "_bases", "_fresh", "_groups", "_packs", "_runs", "destination", "size")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self._groups: dict[Encoder, dict[S, Write]] = {}
        # For delta groups: the last publication they got, and who joined since and gets the next one whole.
        self._bases: dict[Encoder, Publication] = {}
        self._fresh: dict[Encoder, dict[S, Write]] = {}
        # Whether one of the groups packs, or did.
        self._packs = False
        self.size = 0
        self._backlog: _Backlog[S] | None = None
        self._runs: list[_Run[S]] = []

    @property
    def busy(self) -> bool:
        return bool(self._runs) or self._backlog is not None

    @property
    def running(self) -> bool:
        return bool(self._runs)

    @property
    def waiting_bytes(self) -> int:
        return self._backlog.size if self._backlog is not None else 0

    def subscribers(self) -> Iterator[S]:
        for writes in (*self._groups.values(), *self._fresh.values()):
            yield from writes

    def add(self, subscriber: S, encoder: Encoder, write: Write) -> None:
        """Add a subscriber; events that already wait are not for it."""
        if self._backlog is not None:
            self._backlog.starts[subscriber] = self._backlog.passed + len(self._backlog.events)
        writes = self._groups.setdefault(encoder, {})
        if isinstance(encoder, DeltaEncoder):
            writes = self._fresh.setdefault(encoder, {})
        writes[subscriber] = write
        self._packs |= encoder.packs
        self.size += 1

    def redirect(self, subscriber: S, encoder: Encoder, write: Write) -> None:
        """Replace a subscriber's `write`, even in the middle of a delivery."""
        fresh = self._fresh.get(encoder, {})
        writes = fresh if subscriber in fresh else self._groups[encoder]
        writes[subscriber] = write

    def remove(self, subscriber: S, encoder: Encoder) -> None:
        self.size -= 1
        if self._backlog is not None:
            self._backlog.starts.pop(subscriber, None)
        writes = self._groups[encoder]
        if self._fresh.get(encoder, {}).pop(subscriber, None) is None:
            del writes[subscriber]
            for run in self._runs:
                if run.writes is writes:
                    run.left.add(subscriber)
        if not writes and not self._fresh.get(encoder):
            del self._groups[encoder]
            self._fresh.pop(encoder, None)
            self._bases.pop(encoder, None)

    def move(self, subscriber: S, old: Encoder, new: Encoder, write: Write) -> Written:
        """Replace a subscriber's encoder and `write`. What it has not got yet is written now."""
        deliveries = size = 0
        for events in self._owed(subscriber, self._groups[old]):
            block = new.events(events)
            write(block)
            deliveries += len(events)
            size += len(block)
        self.remove(subscriber, old)
        self.add(subscriber, new, write)
        return Written(deliveries, size)

    def _owed(self, subscriber: S, writes: dict[S, Write]) -> Iterator[Sequence[Event]]:
        """Events it has not got yet: those being written to its group, and those that wait."""
        for run in self._runs:
            is_meant = run.writes is writes and subscriber.client != run.exclude and subscriber not in run.left
            if is_meant and subscriber in run.members[run.next :]:
                yield run.events
        if self._backlog is not None:
            start = self._backlog.starts.get(subscriber, self._backlog.passed) - self._backlog.passed
            for exclude, events in _by_exclusion(list(self._backlog.events)[start:]):
                if subscriber.client != exclude:
                    yield events

    def cost(self, events: Sequence[Event]) -> int:
        """The cost of encoding and writing these events, in writes."""
        if len(events) == 1 and not self._bases and not self._fresh and not self._packs:
            return self.size
        return self.size * sum(1 for _ in groupby(events, key=_exclusion)) + self.encoding_cost(events)

    def encoding_cost(self, events: Sequence[Event]) -> int:
        """The cost of encoding these events, in writes."""
        return sum(encoder.cost(events) for encoder in self._groups)

    def write_all(self, events: Sequence[Event]) -> Written:
        """Write to all subscribers now.

        `write` may pause a connection, which replaces a value of the dictionary under iteration, never a key.
        """
        deliveries = size = 0
        for exclude, batch in _by_exclusion(events):
            for _, encode, members, _ in self._blocks(batch, exclude):
                block = encode()
                writes: Collection[Write] = members.values()
                if exclude:
                    writes = [write for subscriber, write in members.items() if subscriber.client != exclude]
                ahead = iter(writes)
                owners: list[S] = []
                for write in ahead:
                    try:
                        write(block)
                    except Exception:
                        # Find its owner by the number of writes still to come: counting would slow every delivery.
                        owners = owners or [each for each in members if not exclude or each.client != exclude]
                        owners[-1 - length_hint(ahead)].write_failed()
                count = len(writes)
                deliveries += len(batch) * count
                size += len(block) * count
        return Written(deliveries, size)

    def wait(self, events: Sequence[Event], limit: int) -> int:
        """Queue behind what is being written; returns how many were dropped, oldest first, to stay in `limit`."""
        if self._backlog is None:
            self._backlog = _Backlog()
        dropped = self._backlog.add(events, limit)
        self._end_backlog()
        return dropped

    def give_up(self) -> None:
        """Drop what waits and what is being written, after a fault."""
        self._backlog = None
        self._runs.clear()

    def discard(self) -> int:
        """Drop what waits; returns the number of events. Writing in progress continues."""
        count = len(self._backlog.events) if self._backlog is not None else 0
        self._backlog = None
        return count

    def begin(self) -> Sequence[Event]:
        """Turn the oldest events that go to the same members into runs, and return them.

        Only these: a run holds a list of its members, and only what waits is bounded.
        """
        assert self._backlog is not None
        batch, starts = self._backlog.take(PACKED_SLICE if self._packs else SLICE), self._backlog.starts
        exclude = batch[0].exclude_client
        for encoder, encode, members, writes in self._blocks(batch, exclude):
            chosen = [member for member in members if member not in starts] if starts else list(members)
            self._runs.append(_Run(encode, encoder.cost(batch), batch, chosen, writes, exclude))
        self._backlog.let_pass(len(batch))
        self._end_backlog()
        return batch

    def _end_backlog(self) -> None:
        if self._backlog is not None and not self._backlog.events:
            self._backlog = None

    def _blocks(
        self, batch: Sequence[Event], exclude: str
    ) -> Iterator[tuple[Encoder, Encode, dict[S, Write], dict[S, Write]]]:
        """The encoders of the blocks to write, what encodes them at any time, the members to write to, and the
        dictionary that has their writes later."""
        for encoder, writes in self._groups.items():
            if not isinstance(encoder, DeltaEncoder):
                yield encoder, partial(encoder.events, batch), writes, writes
                continue
            base = self._bases.get(encoder)
            fresh = self._fresh.pop(encoder, {})
            starts = self._backlog.starts if self._backlog is not None else ()
            if starts and (late := {each: fresh.pop(each) for each in list(fresh) if each in starts}):
                self._fresh[encoder] = late
            if writes:
                yield encoder, partial(encoder.after, base, batch), writes, writes
            if fresh:
                writes.update(fresh)
                yield encoder, partial(encoder.events, batch), fresh, writes
            last = next((event for event in reversed(batch) if isinstance(event, Publication)), base)
            if exclude or last is None:
                # Some member did not get it: the next one is sent whole to all.
                self._bases.pop(encoder, None)
            else:
                self._bases[encoder] = last

    def advance(self, budget: int) -> tuple[int, Written]:
        """Encode and write for about `budget` writes; returns how many it was worth, and what was written."""
        used = deliveries = size = 0
        while self._runs and used < budget:
            run = self._runs[0]
            if run.block is None:
                run.block = run.encode()
                used += run.cost
                if used >= budget:
                    break
            end = min(run.next + budget - used, len(run.members))
            written = 0
            for subscriber in run.members[run.next : end]:
                # The current write: it may have been replaced since the run began.
                write = run.writes.get(subscriber)
                if write is not None and subscriber.client != run.exclude and subscriber not in run.left:
                    try:
                        write(run.block)
                    except Exception:
                        subscriber.write_failed()
                    written += 1
            used += end - run.next
            deliveries += written * len(run.events)
            size += written * len(run.block)
            run.next = end
            if end == len(run.members):
                del self._runs[0]
        return used, Written(deliveries, size)


def footprint(event: Event) -> int:
    """Bytes of memory that an event takes while it waits."""
    size = len(event.data) + OVERHEAD
    if event.info is not None:
        size += sum(map(getsizeof, astuple(event.info)))
    if type(event) is Publication and event.tags:
        size += getsizeof(event.tags) + sum(map(getsizeof, event.tags)) + sum(map(getsizeof, event.tags.values()))
    return size


def _exclusion(event: Event) -> str:
    return event.exclude_client


def _by_exclusion(events: Sequence[Event]) -> Iterator[tuple[str, Sequence[Event]]]:
    """Runs of consecutive events that exclude the same connection."""
    if len(events) == 1:
        yield events[0].exclude_client, events
        return
    for exclude, stretch in groupby(events, key=_exclusion):
        yield exclude, list(stretch)
