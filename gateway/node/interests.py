"""The channels this node subscribes to at the broker: those with local subscribers, once per channel."""

from functools import partial

from gateway.broker.base import Broker, SubscribeDone
from gateway.errors import INTERNAL, RequestError
from gateway.guard import Guard
from gateway.messages import Channel


class _Interest:
    __slots__ = ("count", "ready", "waiters")

    def __init__(self) -> None:
        self.count = 0
        self.ready = False
        self.waiters: list[SubscribeDone] = []


class Interests:
    """Reference counts over the broker's subscriptions."""

    def __init__(self, broker: Broker, guard: Guard) -> None:
        self._broker = broker
        self._guard = guard
        self._interests: dict[Channel, _Interest] = {}

    def acquire(self, channel: Channel, done: SubscribeDone) -> None:
        """Add a subscriber. `done` is called (possibly at once) when publications reach this node, or with the error.

        After an error there is nothing to release.
        """
        interest = self._interests.get(channel)
        if interest is not None and interest.ready:
            interest.count += 1
            done(None)
            return
        if interest is not None:
            interest.count += 1
            interest.waiters.append(done)
            return
        interest = self._interests[channel] = _Interest()
        interest.count = 1
        interest.waiters.append(done)
        subscribed = partial(self._subscribed, channel, interest)
        if not self._guard.call("subscribe", channel.name, self._broker.subscribe, channel, subscribed):
            subscribed(RequestError(INTERNAL, "the broker could not be asked"))

    def release(self, channel: Channel) -> None:
        """Remove a subscriber whose `acquire` succeeded."""
        interest = self._interests[channel]
        interest.count -= 1
        if not interest.count:
            del self._interests[channel]
            self._broker.unsubscribe(channel)

    def _subscribed(self, channel: Channel, interest: _Interest, error: RequestError | None) -> None:
        waiters, interest.waiters = interest.waiters, []
        if error is None:
            interest.ready = True
        else:
            del self._interests[channel]
        for done in waiters:
            # One subscriber's fault must neither keep the others waiting nor break the broker's link.
            self._guard.call("completion", channel.name, done, error)
