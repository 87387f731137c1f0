"""Publishes to one server.

A publish completes once: accepted, refused, or with an unknown outcome. It is never sent again. Bytes in flight are
bounded, and no user has more than a share of them.
"""

from collections.abc import Callable
from typing import Any

from gateway.broker import envelope
from gateway.broker.base import PublishDone
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import lua, stream_commands
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import Link, pack
from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.messages import PUBLISHED, Channel, Publication, PublishOptions, PublishResult, User
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
        command = self._command(publication, options, link)
        self._count(payer, len(command))

        def replied(reply: Any) -> None:
            self._count(payer, -len(command))
            if isinstance(reply, Exception):
                done(self._failure(reply))
                return
            if isinstance(reply, list) and (obstacle := stream_commands.obstacle(reply)) is not None:
                metrics.publish_errors.add("too many values")
                done(obstacle)
                return
            try:
                result = PublishResult(*stream_commands.position(reply)) if isinstance(reply, list) else PUBLISHED
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

    def _command(self, publication: Publication, options: PublishOptions, link: Link) -> bytes:
        if options.history is not None:
            return stream_commands.publish_command(self._keys, publication, options.history, options, link)
        if options.latest is not None:
            return stream_commands.latest_command(self._keys, publication, options.latest, options, link)
        bus = self._keys.bus(publication.channel)
        message = envelope.live(publication)
        if options.idempotency_key:
            result = self._keys.result(publication.channel, options.idempotency_key)
            return pack("EVALSHA", lua.PUBLISH_ONCE.sha, 1, result, bus, message, options.idempotency_ttl)
        return pack(b"PUBLISH", bus, message)

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
        if text.startswith("UNSENT"):
            self._metrics.publish_errors.add("unknown outcome")
            return OutcomeUnknown(f"stored, but not sent to the subscribers: {text}")
        # An error of Redis itself (out of memory, read only, loading): the command was not carried out.
        self._metrics.publish_errors.add("refused by redis")
        self._refused(self._link, text)
        return BrokerUnavailable(f"Redis refused the publish: {text}")


def _payer(publication: Publication) -> User | None:
    """The user that a publish in flight counts for; None for publishes of backends, which do not count.

    Anonymous connections count separately.
    """
    info = publication.info
    return User(publication.channel.app, info.user or info.client) if info is not None else None
