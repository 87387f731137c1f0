"""Decides whether anything was lost, doubled, misordered or silently skipped. Pure: it is told events, in their order.

A publication is a number that the checker gives out. What a subscriber has seen of a channel is checked as it comes:
within one continuity the offsets are consecutive, and a position (channel, epoch, offset) stands for one publication,
the same for everybody. So one million publications take some 40 bytes each, and their deliveries none.
"""

from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping

from tests.faults.subscription import Subscription
from tests.faults.verdicts import Continuity, Fault, Kept, Stream, Top, Violation

# Violations kept with their details; all are counted.
DETAILED = 40
# The part of recoveries that may fail where the history still held the range.
REFUSED_PART = 0.01

_NEVER = float("inf")
# Instead of publications, at offsets of a stream: nobody has told yet; somebody wrote there who is no node.
_UNTOLD, _FOREIGN = -1, -2
_ACKNOWLEDGED, _REFUSED, _REPEATED = 1, 2, 4


class Checker:
    """Takes all events of a run and keeps the account."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        # Of publications, by id.
        self._channel = array("H")
        self._bytes = array("I")
        self._state = bytearray()
        self._sent = array("d")
        self._acknowledged = array("d")
        self._stream = array("i")
        self._offset = array("i")
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._streams: list[Stream] = []
        self._epochs: dict[str, dict[str, Stream]] = {}
        self._restarts = 0
        # Epochs that had no cause, by channel.
        self._excess: Counter[str] = Counter()
        self.subscriptions: list[Subscription] = []
        self.counts: Counter[Fault] = Counter()
        self.violations: list[Violation] = []
        # How often something was sent to a channel: no offset can be above.
        self.tries: Counter[str] = Counter()
        # Who, which channel, since where, at which top: some recoveries that failed without need.
        self.refusals: deque[object] = deque(maxlen=DETAILED)
        self.acknowledged = self.deliveries = self.recovered = self.gaps = self.refused = 0

    @property
    def attempts(self) -> int:
        return len(self._state)

    # The events of publishers, and of the servers

    def attempt(self, channel: str, now: float, size: int) -> int:
        """A publish is sent now for the first time. Returns the publication's id."""
        number = self._numbers.get(channel)
        if number is None:
            number = self._numbers[channel] = len(self._names)
            self._names.append(channel)
            self._epochs.setdefault(channel, {})
        self.tries[channel] += 1
        self._channel.append(number)
        self._bytes.append(size)
        self._state.append(0)
        self._sent.append(now)
        self._acknowledged.append(_NEVER)
        self._stream.append(-1)
        self._offset.append(0)
        return len(self._state) - 1

    def repeat(self, id: int) -> None:
        """The same publish is sent again, with an idempotency key."""
        self._state[id] |= _REPEATED
        self.tries[self._names[self._channel[id]]] += 1

    def acknowledge(self, id: int, now: float, top: Top | None = None) -> None:
        """The publish was accepted; `top` is its position where the answer tells it. Without a word it is unknown."""
        self._state[id] |= _ACKNOWLEDGED
        self._acknowledged[id] = now
        self.acknowledged += 1
        if top is not None:
            channel = self._names[self._channel[id]]
            stream = self._epoch(channel, top.epoch, "")
            if 0 < top.offset <= self.tries[channel]:
                self._place("", stream, id, top.offset)
            else:
                self.report(Fault.FORGED, channel, "", f"publication {id} acknowledged at {top}")

    def refuse(self, id: int) -> None:
        """The publish certainly had no effect."""
        self._state[id] |= _REFUSED
        if self._stream[id] >= 0:
            self.report(Fault.DENIED, self._names[self._channel[id]], "", f"publication {id} refused after delivery")

    def restarted(self) -> None:
        """The primary was restarted or replaced: streams may begin anew, once."""
        self._restarts += 1

    def forging(self, channel: str) -> None:
        """Something is written into the stream past the gateway now: an offset is used up."""
        self.tries[channel] += 1

    def forged(self, channel: str, top: Top) -> None:
        """It stands there, and is for nobody: whoever passes it must be told of a gap."""
        ids = self._epoch(channel, top.epoch, "").ids
        ids.extend([_UNTOLD] * (top.offset - len(ids)))
        ids[top.offset - 1] = _FOREIGN

    def subscription(self, client: str, channel: str) -> Subscription:
        """The place to tell what this client is told about this channel."""
        subscription = Subscription(self, client, channel)
        self.subscriptions.append(subscription)
        return subscription

    # Questions

    def behind(self, tops: Mapping[str, Top]) -> list[Subscription]:
        """Subscriptions that have not reached these positions."""
        late = []
        for subscription in self.subscriptions:
            top = tops.get(subscription.channel)
            if top is None:
                continue
            is_there = subscription.epoch == top.epoch and subscription.offset >= top.offset
            if not subscription.live or not (is_there or subscription.position.began_after(top)):
                late.append(subscription)
        return late

    def finish(self, tops: Mapping[str, Top], now: float) -> None:
        """The end: nothing is under way any more, and these are the ends of the streams as the gateway says."""
        for subscription in self.subscriptions:
            top = tops[subscription.channel]
            if not subscription.live or not subscription.position.is_same(top):
                text = f"live={subscription.live} at {subscription.epoch}:{subscription.offset}, the stream at {top}"
                events = tuple(subscription.events)
                self.report(Fault.STALE, subscription.channel, subscription.client, text, events)
        for channel, top in tops.items():
            known = self._epochs.get(channel, {}).get(top.epoch)
            if known is not None and len(known.ids) > top.offset:
                text = f"{len(known.ids) - top.offset} acknowledged or delivered publications are behind the top {top}"
                self.report(Fault.LOST, channel, "", text)
        self._check_recoveries()
        self._check_unseen(now)
        for stream in self._streams:
            self._check_real_time(stream)

    # For subscriptions

    def stream(self, subscription: Subscription, epoch: str) -> Stream:
        return self._epoch(subscription.channel, epoch, subscription.client)

    def held(self, stream: Stream, offset: int, top: Top, now: float) -> bool:
        """Whether the history must have had all that comes after `offset`."""
        missed = top.offset - offset
        if stream.epoch != top.epoch or not 0 <= missed <= self._kept.publications:
            return False
        passed = stream.ids[offset : top.offset]
        if _FOREIGN in passed:
            return False
        # What nobody has told of yet is held to be small and new.
        ids = [id for id in passed if id >= 0]
        newest = max((self._sent[id] for id in ids), default=now)
        return now - newest < self._kept.seconds and sum(self._bytes[id] for id in ids) <= self._kept.bytes

    def place(self, subscription: Subscription, stream: Stream, id: int, offset: int) -> None:
        """A publication was delivered where nobody has seen it yet."""
        channel = stream.channel
        events = tuple(subscription.events)
        if not 0 <= id < len(self._state) or self._names[self._channel[id]] != channel:
            text = f"publication {id} was never sent to this channel"
            self.report(Fault.FORGED, channel, subscription.client, text, events)
            return
        if self._state[id] & _REFUSED:
            text = f"publication {id} at {offset}"
            self.report(Fault.DENIED, channel, subscription.client, text, events)
        self._place(subscription.client, stream, id, offset, events)

    def report(self, fault: Fault, channel: str, client: str, text: str, events: tuple[object, ...] = ()) -> None:
        """Count a violation, and keep it while there are few."""
        self.counts[fault] += 1
        if len(self.violations) < DETAILED:
            self.violations.append(Violation(fault, channel, client, text, events))

    # Inside

    def _epoch(self, channel: str, epoch: str, client: str) -> Stream:
        epochs = self._epochs.setdefault(channel, {})
        stream = epochs.get(epoch)
        if stream is None:
            stream = epochs[epoch] = Stream(len(self._streams), channel, epoch)
            self._streams.append(stream)
            if len(epochs) > self._restarts + 1 + self._excess[channel]:
                # Once for each of them.
                self._excess[channel] += 1
                text = f"{len(epochs)} epochs after {self._restarts} restarts of the primary: {list(epochs)[-3:]}"
                self.report(Fault.EPOCH, channel, client, text)
        return stream

    def _place(self, client: str, stream: Stream, id: int, offset: int, events: tuple[object, ...] = ()) -> None:
        """Note that a publication stands there, and check that nothing else does."""
        ids = stream.ids
        if len(ids) < offset:
            ids.extend([_UNTOLD] * (offset - len(ids)))
        other = ids[offset - 1]
        if other == _UNTOLD:
            ids[offset - 1] = id
        elif other != id:
            text = f"{stream.epoch}:{offset} is publication {other} and publication {id}"
            self.report(Fault.FORKED, stream.channel, client, text, events)
        before = self._stream[id]
        if before == stream.number:
            twice = self._offset[id] != offset
        else:
            # With a key, a repeated publish may also arrive in the stream that began after it.
            twice = before >= 0 and not self._state[id] & _REPEATED
        if twice:
            there = f"{self._streams[before].epoch}:{self._offset[id]}"
            text = f"publication {id} stands at {there} and at {stream.epoch}:{offset}"
            self.report(Fault.DUPLICATED, stream.channel, client, text, events)
        self._stream[id] = stream.number
        self._offset[id] = offset

    def _check_recoveries(self) -> None:
        held = self.recovered + self.refused
        if self.refused > held * REFUSED_PART:
            self.report(Fault.RECOVERY, "", "", f"{self.refused} of {held}", tuple(self.refusals))

    def _check_unseen(self, now: float) -> None:
        """Acknowledged publications that nobody got: each subscriber must have been told of a gap at their time."""
        unseen: dict[str, list[int]] = {}
        for id in self._unseen(now):
            unseen.setdefault(self._names[self._channel[id]], []).append(id)
        for subscription in self.subscriptions:
            spans = list(subscription.continuities(now))
            for id in unseen.get(subscription.channel, ()):
                if any(self._misses(each, id, now) for each in spans):
                    text = f"publication {id} was acknowledged and nobody got it"
                    self.report(Fault.LOST, subscription.channel, subscription.client, text, tuple(subscription.events))

    def _unseen(self, now: float) -> Iterator[int]:
        """Ids of acknowledged publications outside of all continuities."""
        covered = [bytearray(len(stream.ids)) for stream in self._streams]
        for subscription in self.subscriptions:
            for _, _, stream, first, last in subscription.continuities(now):
                covered[stream.number][first:last] = b"\1" * (last - first)
        for id, state in enumerate(self._state):
            if state & _ACKNOWLEDGED:
                stream_number = self._stream[id]
                if stream_number < 0 or not covered[stream_number][self._offset[id] - 1]:
                    yield id

    def _misses(self, continuity: Continuity, id: int, now: float) -> bool:
        """Whether a continuity includes the whole time of a publish, and went on with what was sent after it."""
        if not (continuity.began < self._sent[id] and self._acknowledged[id] < continuity.ended):
            return False
        if continuity.ended == now:
            return True
        ids = continuity.stream.ids[continuity.first : continuity.last]
        newest = ids[-1] if ids else -1
        return newest >= 0 and self._sent[newest] > self._acknowledged[id]

    def _check_real_time(self, stream: Stream) -> None:
        """What was acknowledged before another publish was sent stands before it."""
        newest = -_NEVER
        for offset, id in enumerate(stream.ids, 1):
            if id < 0:
                continue
            if self._acknowledged[id] < newest:
                text = f"publication {id} at {stream.epoch}:{offset} was acknowledged before an earlier one was sent"
                self.report(Fault.MISORDERED, stream.channel, "", text)
            newest = max(newest, self._sent[id])
