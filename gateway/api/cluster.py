"""Channels and info: what is where in the cluster, from the state that the nodes keep in the registry."""

import time

from gateway.api.schemas import (
    ChannelInfo,
    ChannelsRequest,
    ChannelsResult,
    DrainRequest,
    DrainResult,
    InfoRequest,
    InfoResult,
    NodeResult,
    Process,
)
from gateway.control import DrainNode, NodeInfo
from gateway.errors import BAD_REQUEST, INTERNAL, RequestError
from gateway.messages import DEFAULT_APP
from gateway.node.node import Node

# Channels that an answer without pages holds at most, about 1 MB of names.
UNPAGED = 10_000
# Channels asked of the registry at once.
PAGE = 1_000


class Cluster:
    """Answers questions about the cluster. Every method raises RequestError."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def channels(self, request: ChannelsRequest) -> ChannelsResult:
        """One page, or without `limit` all channels: clients that know no pages must not take a part for the whole."""
        found: dict[str, ChannelInfo] = {}
        cursor = request.cursor
        while True:
            page = await self._node.occupied_channels(DEFAULT_APP, request.pattern, request.limit or PAGE, cursor)
            cursor = page.cursor
            found.update((name, ChannelInfo(count)) for name, count in page.channels)
            if request.limit or not cursor:
                return ChannelsResult(found, cursor)
            if len(found) > UNPAGED:
                raise RequestError(BAD_REQUEST, f"more than {UNPAGED} channels: ask for pages with limit and cursor")

    async def info(self, request: InfoRequest) -> InfoResult:
        now = time.time()
        return InfoResult([_node_result(info, now) for info in await self._node.nodes()])

    async def drain(self, request: DrainRequest) -> DrainResult:
        nodes = await self._node.nodes()
        found = [each for each in nodes if request.node in (each.uid, each.name)]
        if len(found) != 1:
            names = ", ".join(each.name for each in nodes)
            what = "several nodes have this name, give the uid" if found else f"no such node; there are: {names}"
            raise RequestError(BAD_REQUEST, f"node {request.node!r}: {what}")
        result = await self._node.control(DrainNode(found[0].uid))
        # The answers of the others do not matter, but without them nobody knows which one is missing.
        if result.replies < result.nodes:
            raise RequestError(INTERNAL, f"{result.replies} of {result.nodes} nodes answered; it may not drain")
        return DrainResult(result.affected)


def _node_result(info: NodeInfo, now: float) -> NodeResult:
    return NodeResult(
        uid=info.uid,
        name=info.name,
        version=info.version,
        url=info.url,
        num_clients=info.num_clients,
        num_users=info.num_users,
        num_subs=info.num_subs,
        num_channels=info.num_channels,
        draining=info.draining,
        # Clocks of two machines differ.
        uptime=max(int(now) - info.started_at, 0),
        process=Process(cpu=round(info.cpu_seconds, 2), rss=info.rss),
    )
