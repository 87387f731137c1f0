"""A correct gateway with one channel, in miniature, for the tests of the checker."""

from tests.faults.checker import Checker
from tests.faults.subscription import Subscription
from tests.faults.verdicts import Fault, Kept, Top

ROOM = "room"
KEPT = Kept(publications=10, bytes=1_000, seconds=60.0)


class Site:
    """Tests plant the errors between its calls."""

    def __init__(self) -> None:
        self.checker = Checker(KEPT)
        self.now = 0.0
        self.epoch = "a"
        self.stream: list[int] = []

    @property
    def top(self) -> Top:
        return Top(self.epoch, len(self.stream))

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def send(self, size: int = 10) -> int:
        """A publish is under way."""
        return self.checker.attempt(ROOM, self.tick(), size)

    def publish(self, size: int = 10, *, told: bool = True) -> int:
        """Acknowledged; with its position, as over HTTP, or without one, as over the native protocol."""
        id = self.send(size)
        self.stream.append(id)
        self.checker.acknowledge(id, self.tick(), self.top if told else None)
        return id

    def publish_to(self, *subscriptions: Subscription, count: int = 1) -> None:
        for _ in range(count):
            id = self.publish()
            for each in subscriptions:
                each.delivered(id, len(self.stream))

    def subscriber(self, client: str = "ann") -> Subscription:
        subscription = self.checker.subscription(client, ROOM)
        subscription.subscribed(self.tick(), self.top)
        return subscription

    def recover(self, subscription: Subscription) -> None:
        """As the gateway should: all that is missing."""
        missed = [(self.stream[offset], offset + 1) for offset in range(subscription.offset, len(self.stream))]
        asked = Top(subscription.epoch, subscription.offset)
        subscription.subscribed(self.tick(), asked, recovered=True, was_recovering=True, publications=missed)

    def give_up(self, subscription: Subscription) -> None:
        """Tell of a gap."""
        subscription.subscribed(self.tick(), self.top, was_recovering=True)

    def begin_anew(self, epoch: str) -> None:
        """The primary lost everything."""
        self.checker.restarted()
        self.epoch = epoch
        self.stream = []

    def verdict(self) -> dict[Fault, int]:
        self.checker.finish({ROOM: self.top}, self.tick())
        assert len(self.checker.violations) <= sum(self.checker.counts.values())
        return dict(self.checker.counts)
