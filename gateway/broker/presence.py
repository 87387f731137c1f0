"""Presence in the memory of this process, for the engine of one node."""

import asyncio
import time
from collections.abc import Callable

from gateway.broker.base import CountsDone, MembersDone
from gateway.messages import Channel, ClientId, ClientInfo, Event, MemberCounts, Membership, PresenceRules

# Where joins and leaves go: to the subscribers of the channel.
Announce = Callable[[Channel, Event], None]


class MemoryPresence:
    """Who is in the channels of one node."""

    def __init__(self, announce: Announce) -> None:
        self._announce = announce
        self._members: dict[Channel, dict[ClientId, tuple[ClientInfo, PresenceRules]]] = {}
        self._users: dict[tuple[Channel, str], int] = {}
        # Users who have left and may come back -> the timer that tells it.
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
        if len(members) <= rules.limit and (rules.events == "clients" or (rules.events == "users" and first)):
            self._tell(channel, member, joined=True)

    def leave(self, channel: Channel, client: ClientId) -> None:
        members = self._members.get(channel, {})
        if client not in members:
            return
        few = len(members)
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
        elif few <= rules.limit and (rules.events == "clients" or (rules.events == "users" and last)):
            self._tell(channel, member, joined=False)

    def members(self, channel: Channel, done: MembersDone) -> None:
        done([member for member, _ in self._members.get(channel, {}).values()])

    def counts(self, channel: Channel, done: CountsDone) -> None:
        members = self._members.get(channel, {})
        done(MemberCounts(len(members), len({member.user for member, _ in members.values()})))

    def stop(self) -> None:
        """No timer is left behind."""
        for handle in self._leaving.values():
            handle.cancel()
        self._leaving.clear()

    def _gone(self, channel: Channel, member: ClientInfo, rules: PresenceRules) -> None:
        del self._leaving[channel, member.user]
        if len(self._members.get(channel, {})) <= rules.limit:
            self._tell(channel, member, joined=False)

    def _tell(self, channel: Channel, member: ClientInfo, *, joined: bool) -> None:
        self._announce(channel, Membership(channel, member, joined, int(time.time() * 1000)))
