"""Presence: who is in a channel, for backends."""

import asyncio
from functools import partial

from msgspec import UNSET, Raw

from gateway.api.outcome import outcome
from gateway.api.request_shapes import PresenceRequest, PresenceStatsRequest
from gateway.api.result_shapes import Info, PresenceResult, PresenceStatsResult
from gateway.channels import Channels
from gateway.errors import NOT_AVAILABLE, RequestError
from gateway.messages import DEFAULT_APP, Channel, ClientInfo
from gateway.node.messaging import Messaging

# Members that are made ready for an answer in one turn of the event loop, 0.3 ms.
SLICE = 1_000


class Members:
    """Reads presence through the messaging of the node. Every method raises RequestError."""

    def __init__(self, messaging: Messaging, channels: Channels) -> None:
        self._messaging = messaging
        self._channels = channels

    async def presence(self, request: PresenceRequest) -> PresenceResult:
        members = await outcome(partial(self._messaging.members, self._channel(request.channel), 0, 0))
        found: dict[str, Info] = {}
        for start in range(0, len(members), SLICE):
            found.update((member.client, info(member)) for member in members[start : start + SLICE])
            await asyncio.sleep(0)
        return PresenceResult(found)

    async def stats(self, request: PresenceStatsRequest) -> PresenceStatsResult:
        return PresenceStatsResult(
            *await outcome(partial(self._messaging.member_counts, self._channel(request.channel)))
        )

    def _channel(self, name: str) -> Channel:
        spec = self._channels.resolve(DEFAULT_APP, name)
        if not spec.options.presence:
            raise RequestError(NOT_AVAILABLE, f"channel {name!r} has no presence (presence)")
        return spec.channel


def info(member: ClientInfo) -> Info:
    """A connection as the API shows it."""
    conn_info = Raw(member.conn_info) if member.conn_info else UNSET
    return Info(member.user, member.client, conn_info, Raw(member.chan_info) if member.chan_info else UNSET)
