"""Presence in one server: entries under the lease of their node.

A node sends changes in the order of the calls, and repeats them only if they may not have reached Redis.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import hiredis

from gateway.broker import envelope
from gateway.broker.base import CountsDone, MembersDone
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import lua
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.link import pack
from gateway.broker.refusals import too_many_bytes, too_many_members
from gateway.errors import BrokerUnavailable, RequestError
from gateway.guard import Guard
from gateway.messages import Channel, ClientId, ClientInfo, MemberCounts, PresenceRules
from gateway.metrics import Metrics

# Ends the lease, with which every entry begins.
END = "\0"
# The answer of presence_read if there are too many members.
TOO_MANY = -1
# Unconfirmed leaves that are kept: enough for some minutes of many connections while Redis is away.
MAX_UNCONFIRMED = 100_000
# Members per command, and commands per turn of the loop, when a node enters all its members again.
BATCH = 200
REPEAT_BATCHES = 5
# Channels whose changes are sent in one turn of the loop: writing a command and reading its reply takes 15 us, and many
# connections with many subscriptions may end together.
TURN_CHANNELS = 100
# Seconds to wait when Redis does not read fast enough.
PAUSE = 0.01


class Entry(NamedTuple):
    """A member of this node, as Redis gets it."""

    user: str
    message: bytes
    rules: PresenceRules


class Change(NamedTuple):
    """A join or leave of a member."""

    entered: bool
    client: ClientId
    entry: Entry


class RedisPresence:
    """Presence in the channels of one shard, over its read link, in the order of the calls."""

    def __init__(self, link: KeptLink, lease: Callable[[], LeaseId], keys: Keys, metrics: Metrics) -> None:
        """`lease` returns the current lease of this node."""
        self._link = link
        self._lease = lease
        self._keys = keys
        self._metrics = metrics
        self._guard = Guard(metrics.faults)
        self._members: dict[Channel, dict[ClientId, Entry]] = {}
        # Changes that wait to be sent, by channel, in order. (An OrderedDict, because a dict finds its first entry
        # slowly after many thousands were removed.)
        self._waiting: OrderedDict[Channel, list[Change]] = OrderedDict()
        self._saying = False
        # Leaves that Redis has not confirmed; repeated after an interruption.
        self._left: dict[tuple[Channel, ClientId], Entry] = {}
        # Some change may not have reached Redis.
        self._is_behind = False
        self._repeating: Iterator[None] | None = None

    def enter(self, channel: Channel, member: ClientInfo, rules: PresenceRules) -> None:
        client = ClientId(member.client)
        message = envelope.encode_member(member, int(time.time() * 1000))
        entry = self._members.setdefault(channel, {})[client] = Entry(member.user, message, rules)
        self._say_soon(channel, Change(True, client, entry))

    def leave(self, channel: Channel, client: ClientId) -> None:
        members = self._members.get(channel, {})
        if client not in members:
            return
        entry = members.pop(client)
        if not members:
            del self._members[channel]
        if len(self._left) < MAX_UNCONFIRMED:
            self._left[channel, client] = entry
        self._say_soon(channel, Change(False, client, entry))

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        self._say(channel)

        def replied(reply: Any) -> None:
            error = self._error(reply)
            if error is not None:
                done(error)
            elif isinstance(reply, int):
                done(too_many_members() if reply == TOO_MANY else too_many_bytes())
            else:
                done(list(self._readable(reply)))

        self._ask(pack("EVALSHA", lua.PRESENCE_READ.sha, 1, self._keys.presence(channel), limit, room), replied)

    def _readable(self, entries: list[bytes]) -> Iterator[ClientInfo]:
        """The members that this version can read: during an update, not all nodes can read all members."""
        for entry in entries:
            try:
                yield decoded(entry)
            except EnvelopeError:
                self._metrics.broker_invalid.add()

    def counts(self, channel: Channel, done: CountsDone) -> None:
        self._say(channel)
        found: list[int] = []

        def replied(reply: Any) -> None:
            error = self._error(reply)
            if len(found) < 2 and error is not None:
                # Report one error only: the second reply finds the list full.
                found.extend((0, 0))
                done(error)
            elif error is None:
                found.append(reply)
                if len(found) == 2:
                    done(MemberCounts(*found))

        self._ask(pack("HLEN", self._keys.presence(channel)), replied)
        self._ask(pack("HLEN", self._keys.users(channel)), replied)

    def repeat(self) -> None:
        """Send all members of this node again: its lease had expired, or Redis was away.

        Starts from the beginning even if a repetition is running: what that has sent may belong to the expired lease.
        """
        self._is_behind = False
        is_idle = self._repeating is None
        self._repeating = self._all_again()
        if is_idle:
            self._repeat_some()

    def repeat_if_behind(self) -> None:
        """Repeat if a change may not have reached Redis and the link is up. Called about every second.

        A repetition that is running ends first, so that it also reaches the members after one that Redis refuses.
        """
        link = self._link.current
        if self._is_behind and self._repeating is None and link is not None and link.writable:
            self.repeat()

    def flush(self) -> None:
        """Send all waiting changes at once, because the node ends."""
        for channel in list(self._waiting):
            self._say(channel)

    async def leave_of(
        self,
        lease: LeaseId,
        channel: Channel,
        members: list[tuple[ClientId, ClientInfo]],
        rules: PresenceRules,
        *,
        last: bool,
    ) -> None:
        """Remove members of another lease from a channel; `last` if that lease has no others there.

        Raises BrokerUnavailable or OutcomeUnknown.
        """
        now = int(time.time() * 1000)
        entries = [(client, Entry(info.user, envelope.encode_member(info, now), rules)) for client, info in members]
        command = self._leave_command(lease, channel, entries, rules, last=last)
        try:
            self._said(await self._link.ask_packed(command))
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refused to clean up: {error}") from None

    # Commands

    def _say_soon(self, channel: Channel, change: Change) -> None:
        """Changes of one turn of the loop are sent together, by channel."""
        self._waiting.setdefault(channel, []).append(change)
        if not self._saying:
            self._saying = True
            asyncio.get_running_loop().call_soon(self._say_some)

    def _say_some(self) -> None:
        """Send as much as one turn has room for, while Redis reads. (Without a link it is repeated: `_is_behind`.)"""
        loop = asyncio.get_running_loop()
        for _ in range(TURN_CHANNELS):
            link = self._link.current
            if link is not None and not link.writable:
                loop.call_later(PAUSE, self._say_some)
                return
            if not self._waiting:
                self._saying = False
                return
            channel = next(iter(self._waiting))
            # The other channels wait behind it.
            if not self._guard.call("presence", channel.name, self._say, channel):
                self._is_behind = True
        loop.call_soon(self._say_some)

    def _say(self, channel: Channel) -> None:
        """Send all waiting changes of one channel."""
        changes = self._waiting.pop(channel, ())
        # Each command has the rules of its members, which a reload may have changed in between.
        for (entered, rules), group in groupby(changes, key=lambda change: (change.entered, change.entry.rules)):
            entries = [(change.client, change.entry) for change in group]
            for start in range(0, len(entries), BATCH):
                batch = entries[start : start + BATCH]
                if entered:
                    self._send_enter(channel, batch, rules)
                else:
                    self._send_leave(channel, batch, rules)

    def _send_enter(self, channel: Channel, entries: list[tuple[ClientId, Entry]], rules: PresenceRules) -> None:
        lease = self._lease()
        command = pack(
            "EVALSHA",
            lua.PRESENCE_ENTER.sha,
            5,
            *self._names(channel, lease),
            channel.name,
            self._keys.bus(channel),
            lease + END,
            rules.events,
            rules.limit,
            envelope.JOIN,
            *_arguments(channel, entries),
        )
        self._ask(command, self._said)

    def _send_leave(self, channel: Channel, entries: list[tuple[ClientId, Entry]], rules: PresenceRules) -> None:
        last = channel not in self._members
        command = self._leave_command(self._lease(), channel, entries, rules, last=last)

        def replied(reply: Any) -> None:
            self._said(reply)
            if not isinstance(reply, Exception):
                for client, _ in entries:
                    self._left.pop((channel, client), None)

        self._ask(command, replied)

    def _leave_command(
        self,
        lease: LeaseId,
        channel: Channel,
        entries: list[tuple[ClientId, Entry]],
        rules: PresenceRules,
        *,
        last: bool,
    ) -> bytes:
        told_at = int((time.time() + rules.grace) * 1000) if rules.grace else 0
        return pack(
            "EVALSHA",
            lua.PRESENCE_LEAVE.sha,
            5,
            *self._names(channel, lease),
            channel.name,
            self._keys.bus(channel),
            lease + END,
            rules.events,
            rules.limit,
            envelope.LEAVE,
            int(last),
            told_at,
            *_arguments(channel, entries),
        )

    def _names(self, channel: Channel, lease: LeaseId) -> list[bytes]:
        partition = self._keys.partition(channel)
        return [
            self._keys.presence(channel),
            self._keys.users(channel),
            self._keys.held(partition, channel.app, lease),
            self._keys.leaving(partition, channel.app),
            self._keys.farewells(partition, channel.app),
        ]

    def _ask(self, command: bytes, done: Any) -> None:
        link = self._link.current
        if link is None or not link.writable:
            done(BrokerUnavailable(f"no connection to Redis: {self._link.reason}"))
        else:
            link.send(command, done)

    def _said(self, reply: Any) -> None:
        """The reply to a change."""
        if isinstance(reply, Exception):
            self._is_behind = True
            self._remind(reply)
        else:
            self.count_untold(reply)

    def count_untold(self, number: int) -> None:
        """Count joins and leaves that were not sent because the channel has more members than the limit."""
        self._metrics.memberships_untold.add(number)

    def _error(self, reply: Any) -> RequestError | None:
        """The error in a reply, if there is one."""
        if isinstance(reply, RequestError):
            return BrokerUnavailable(reply.detail)
        if isinstance(reply, hiredis.ReplyError):
            self._remind(reply)
            return BrokerUnavailable(f"Redis refused to read presence: {reply}")
        return None

    def _remind(self, reply: Exception) -> None:
        """Load the scripts again if Redis has lost them."""
        if str(reply).startswith("NOSCRIPT") and self._link.current is not None:
            lua.reload(self._link.current)

    # Repeating

    def _all_again(self) -> Iterator[None]:
        """One batch per step."""
        for (channel, client), entry in list(self._left.items()):
            self._send_leave(channel, [(client, entry)], entry.rules)
            yield
        for channel in list(self._members):
            clients = list(self._members.get(channel, ()))
            for start in range(0, len(clients), BATCH):
                members = self._members.get(channel, {})
                batch = [(each, members[each]) for each in clients[start : start + BATCH] if each in members]
                if batch:
                    self._send_enter(channel, batch, batch[0][1].rules)
                yield

    def _repeat_some(self) -> None:
        if not self._guard.call("presence", "", self._go_on_repeating):
            # Begin again with the next `repeat_if_behind`.
            self._is_behind, self._repeating = True, None

    def _go_on_repeating(self) -> None:
        assert self._repeating is not None
        loop = asyncio.get_running_loop()
        for _ in range(REPEAT_BATCHES):
            link = self._link.current
            if link is None:
                # The rest would not reach Redis either: begin again later.
                self._is_behind, self._repeating = True, None
                return
            if not link.writable:
                loop.call_later(PAUSE, self._repeat_some)
                return
            if next(self._repeating, self) is self:
                self._repeating = None
                return
        loop.call_soon(self._repeat_some)


def _arguments(channel: Channel, entries: Iterable[tuple[ClientId, Entry]]) -> Iterator[str | bytes]:
    for client, entry in entries:
        yield client
        yield entry.user
        yield leaving_entry(channel, entry.user)
        yield entry.message


def decoded(entry: bytes) -> ClientInfo:
    """The member in an entry. Raises EnvelopeError."""
    return envelope.decode_member(_user_and_message(entry)[1])


def user_of(entry: bytes) -> str:
    """The user in an entry of any version. Raises EnvelopeError."""
    return _user_and_message(entry)[0]


def _user_and_message(entry: bytes) -> tuple[str, bytes]:
    length, _, rest = entry.partition(END.encode())[2].partition(b":")
    try:
        end = int(length)
        return rest[:end].decode(), rest[end:]
    except ValueError:
        raise EnvelopeError("not an entry of a member") from None


def leaving_entry(channel: Channel, user: str) -> str:
    """The entry of a user of a channel in `leaving` and `farewells`."""
    return f"{len(channel.name)}:{channel.name}:{user}"
