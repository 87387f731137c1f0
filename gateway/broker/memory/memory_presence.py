"""Presence in the memory of this process."""

import asyncio
import time
from collections.abc import Callable

from gateway.broker.base import CountsDone, MembersDone
from gateway.broker.refusals import too_many_bytes, too_many_members
from gateway.messages import (
    Channel,
    ClientId,
    ClientInfo,
    Event,
    MemberCounts,
    Membership,
    PresenceRules,
    member_footprint,
)
from gateway.metrics import Metrics

# Where joins and leaves go: to the subscribers of the channel.
Announce = Callable[[Channel, Event], None]


class MemoryPresence:
    """Who is in the channels of one node."""

    def __init__(self, announce: Announce, metrics: Metrics) -> None:
        self._announce = announce
        self._metrics = metrics
        self._members: dict[Channel, dict[ClientId, tuple[ClientInfo, PresenceRules]]] = {}
        self._users: dict[tuple[Channel, str], int] = {}
        # Users who have left and may come back -> the timer that sends their leave.
        self._leaving: dict[tuple[Channel, str], asyncio.TimerHandle] = {}

    def enter(self, channel: Channel, member: ClientInfo, rules: PresenceRules) -> None:
        members = self._members.setdefault(channel, {})
        client = ClientId(member.client)
        if client in members:
            return
        members[client] = (member, rules)
        of_user = (channel, member.user)
        self._users[of_user] = self._users.get(of_user, 0) + 1
        returned = self._leaving.pop(of_user, None)
        if returned is not None:
            returned.cancel()
        first = self._users[of_user] == 1 and returned is None
        if rules.events == "clients" or (rules.events == "users" and first):
            self._tell(channel, member, rules, joined=True, members=len(members))

    def leave(self, channel: Channel, client: ClientId) -> None:
        members = self._members.get(channel, {})
        if client not in members:
            return
        before = len(members)
        member, rules = members.pop(client)
        if not members:
            del self._members[channel]
        of_user = (channel, member.user)
        self._users[of_user] -= 1
        if not self._users[of_user]:
            del self._users[of_user]
        last = of_user not in self._users
        if rules.events == "users" and last and rules.grace:
            self._leaving[of_user] = asyncio.get_running_loop().call_later(
                rules.grace, self._gone, channel, member, rules
            )
        elif rules.events == "clients" or (rules.events == "users" and last):
            self._tell(channel, member, rules, joined=False, members=before)

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        members = [member for member, _ in self._members.get(channel, {}).values()]
        if limit and len(members) > limit:
            done(too_many_members())
        elif room and sum(map(member_footprint, members)) > room:
            done(too_many_bytes())
        else:
            done(members)

    def counts(self, channel: Channel, done: CountsDone) -> None:
        members = self._members.get(channel, {})
        done(MemberCounts(len(members), len({member.user for member, _ in members.values()})))

    def stop(self) -> None:
        """Cancel all timers."""
        for handle in self._leaving.values():
            handle.cancel()
        self._leaving.clear()

    def _gone(self, channel: Channel, member: ClientInfo, rules: PresenceRules) -> None:
        del self._leaving[channel, member.user]
        self._tell(channel, member, rules, joined=False, members=len(self._members.get(channel, {})))

    def _tell(self, channel: Channel, member: ClientInfo, rules: PresenceRules, *, joined: bool, members: int) -> None:
        """Send a join or leave, unless the channel has more `members` than the limit."""
        if members > rules.limit:
            self._metrics.memberships_untold.add()
        else:
            self._announce(channel, Membership(channel, member, joined, int(time.time() * 1000)))
