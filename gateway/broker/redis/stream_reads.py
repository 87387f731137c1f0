"""Reads of streams in Redis: pages, latest values, and comparisons of many at once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hiredis

from gateway.broker.base import HistoryDone, Standing
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import stream_commands
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import Link
from gateway.errors import BrokerUnavailable, RequestError
from gateway.messages import Channel, HistoryPage, HistoryQuery, Latest, Retention


class StreamReads:
    """The reading part of a shard; methods as in the port."""

    def __init__(
        self,
        link: KeptLink,
        keys: Keys,
        refused: Callable[[KeptLink, str], None],
        unreadable: Callable[[Channel, EnvelopeError], None],
    ) -> None:
        """`refused` gets error replies of Redis, `unreadable` entries that are left out of a page."""
        self._link = link
        self._keys = keys
        self._refused = refused
        self._unreadable = unreadable

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        self._read(channel, lambda link: stream_commands.read_command(self._keys, channel, history, query, link), done)

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        self._read(channel, lambda link: stream_commands.values_command(self._keys, channel, latest, link), done)

    def _read(self, channel: Channel, command: Callable[[Link], bytes], done: HistoryDone) -> None:
        """`command` makes it for a link."""
        link = self._link.current
        if link is None or not link.writable:
            done(BrokerUnavailable(self._link.trouble))
            return

        def replied(reply: Any) -> None:
            if isinstance(reply, hiredis.ReplyError):
                self._refused(self._link, str(reply))
                done(BrokerUnavailable(f"Redis refused to read: {reply}"))
            elif isinstance(reply, RequestError):
                # Reading changes nothing, so it may be repeated even if its outcome is unknown.
                done(BrokerUnavailable(reply.detail))
            else:
                done(self._page(channel, reply))

        link.send(command(link), replied)

    def _page(self, channel: Channel, reply: Any) -> HistoryPage | RequestError:
        try:
            return stream_commands.page(channel, reply, partial(self._unreadable, channel))
        except EnvelopeError as error:
            self._unreadable(channel, error)
            return BrokerUnavailable(f"the stream's position cannot be read: {error}")

    def compare(self, standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        link = self._link.current
        if link is None or not link.writable:
            return
        partitions: dict[int, list[Standing]] = {}
        for standing in standings:
            if standing.position.epoch.startswith(link.generation):
                partitions.setdefault(self._keys.partition(standing.channel), []).append(standing)
            else:
                elsewhere(standing)
        for group in partitions.values():
            link.send(
                stream_commands.compare_command(self._keys, group, link), partial(self._compared, group, elsewhere)
            )

    def _compared(self, group: Sequence[Standing], elsewhere: Callable[[Standing], None], reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._refused(self._link, str(reply))
        elif not isinstance(reply, Exception):
            for number in reply:
                elsewhere(group[number - 1])
