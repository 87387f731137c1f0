"""Publishes to one server.

A publish completes once: accepted, refused, or with an unknown outcome. It is never sent again. Bytes in flight are
bounded, and no user has more than a share of them.
"""

from collections.abc import Callable
from typing import Any

from gateway.broker.base import PublishDone
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import publish_commands
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.messages import Channel, Publication, PublishOptions, User
from gateway.metrics import Metrics

# The share that one user may have in flight, of the bytes left for all. A single user gets a fifth of the limit, two
# get a sixth each.
SHARE = 0.25


class Publisher:
    """The publishing part of a shard."""

    def __init__(
        self,
        link: KeptLink,
        pending_limit: int,
        keys: Keys,
        metrics: Metrics,
        refused: Callable[[KeptLink, str], None],
        unreadable: Callable[[Channel, EnvelopeError], None],
    ) -> None:
        """`pending_limit`: bytes in flight. `refused` gets error replies of Redis."""
        self._link = link
        self._pending_limit = pending_limit
        self._keys = keys
        self._metrics = metrics
        self._refused = refused
        self._unreadable = unreadable
        # Bytes in flight by user.
        self._under_way: dict[User | None, int] = {}

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        """As in the port."""
        link = self._link.current
        if link is None or not link.usable:
            self._refuse("unavailable", self._link.trouble, done)
            return
        payer = _payer(publication)
        if self._under_way.get(payer, 0) > SHARE * (self._pending_limit - link.pending_bytes):
            self._refuse("overload", "too many publishes in flight (redis.pending_limit)", done)
            return
        metrics = self._metrics
        loop = link.loop
        started = loop.time()
        command = publish_commands.publish_command(self._keys, publication, options, link)
        self._count(payer, len(command))

        def replied(reply: Any) -> None:
            self._count(payer, -len(command))
            if isinstance(reply, Exception):
                done(self._failure(reply))
                return
            try:
                result = publish_commands.result_of(reply)
            except RequestError as obstacle:
                metrics.publish_errors.add("too many values")
                done(obstacle.detach())
                return
            except EnvelopeError as error:
                self._unreadable(publication.channel, error)
                done(OutcomeUnknown(f"published, at a position that cannot be read: {error}"))
                return
            metrics.published.add()
            metrics.publish_latency.observe(loop.time() - started)
            done(result)

        link.send(command, replied)

    def _count(self, payer: User | None, size: int) -> None:
        if payer is None:
            return
        if under_way := self._under_way.get(payer, 0) + size:
            self._under_way[payer] = under_way
        else:
            del self._under_way[payer]

    def _refuse(self, reason: str, text: str, done: PublishDone) -> None:
        self._metrics.publish_errors.add(reason)
        done(BrokerUnavailable(text))

    def _failure(self, reply: Exception) -> RequestError:
        """The error of a publish, from an error reply."""
        if isinstance(reply, BrokerUnavailable):
            self._metrics.publish_errors.add("unavailable")
            return reply
        if isinstance(reply, RequestError):
            self._metrics.publish_errors.add("unknown outcome")
            return reply
        text = str(reply)
        failure = publish_commands.failure_of(text)
        if isinstance(failure, OutcomeUnknown):
            self._metrics.publish_errors.add("unknown outcome")
        else:
            self._metrics.publish_errors.add("refused by redis")
            self._refused(self._link, text)
        return failure


def _payer(publication: Publication) -> User | None:
    """The user that a publish in flight counts for; None for publishes of backends, which do not count.

    Anonymous connections count separately.
    """
    info = publication.info
    return User(publication.channel.app, info.user or info.client) if info is not None else None
