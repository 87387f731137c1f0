"""Channels, nodes, drain and reload: the state of the cluster in the registry, and control of its nodes."""

import hashlib
import time
from collections.abc import Mapping, Sequence

from gateway.api.request_shapes import ChannelsRequest, DrainRequest, InfoRequest, ReloadRequest
from gateway.api.result_shapes import (
    ChannelInfo,
    ChannelsResult,
    DrainResult,
    InfoResult,
    NodeResult,
    Process,
    ReloadedNode,
    ReloadResult,
)
from gateway.config.reloading import DIGEST
from gateway.control import DrainNode, NodeId, NodeInfo, Reloaded, ReloadSettings
from gateway.errors import BAD_REQUEST, INTERNAL, RequestError
from gateway.messages import DEFAULT_APP
from gateway.node.administration import Administration

# Channels in an answer without pages at most, about 1 MB of names.
UNPAGED = 10_000
# Channels asked of the registry at once.
PAGE = 1_000


class Cluster:
    """Answers questions about the cluster. Every method raises RequestError."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    async def channels(self, request: ChannelsRequest) -> ChannelsResult:
        """One page, or without `limit` all channels: clients without paging must not mistake a part for the whole."""
        found: dict[str, ChannelInfo] = {}
        cursor = request.cursor or ""
        while True:
            page = await self._administration.occupied_channels(
                DEFAULT_APP, request.pattern or "", request.limit or PAGE, cursor
            )
            cursor = page.cursor
            found.update((name, ChannelInfo(count)) for name, count in page.channels)
            if request.limit or not cursor:
                return ChannelsResult(found, cursor)
            if len(found) > UNPAGED:
                raise RequestError(BAD_REQUEST, f"more than {UNPAGED} channels: ask for pages with limit and cursor")

    async def info(self, request: InfoRequest) -> InfoResult:
        now = time.time()
        nodes = await self._administration.nodes()
        usual = _usual(nodes)
        return InfoResult([_node_result(info, now, usual) for info in nodes])

    async def drain(self, request: DrainRequest) -> DrainResult:
        result = await self._administration.control(
            DrainNode(_found(await self._administration.nodes(), request.node).uid)
        )
        # Only the answer of that node matters, but it is not known which one is missing.
        if result.replies < result.nodes:
            raise RequestError(INTERNAL, f"{result.replies} of {result.nodes} nodes answered; it may not drain")
        return DrainResult(result.affected)

    async def reload(self, request: ReloadRequest) -> ReloadResult:
        """The answer has every node that was asked, including those that did not answer."""
        meant = await self._administration.nodes()
        if request.node:
            meant = [_found(meant, request.node)]
        result = await self._administration.control(ReloadSettings(meant[0].uid if request.node else NodeId("")))
        answers = {each.uid: each for each in result.reloaded}
        names = {each.uid: each.name for each in meant}
        # A node that joined meanwhile has just read its settings.
        silent = {uid: Reloaded(uid, "it did not answer; its settings may be as they were") for uid in names}
        return ReloadResult(
            [
                ReloadedNode(names.get(uid, uid), uid, each.error, each.changed, each.needs_restart)
                for uid, each in (silent | answers).items()
            ]
        )


def _found(nodes: Sequence[NodeInfo], wanted: str) -> NodeInfo:
    """The node of this name or uid. Raises RequestError."""
    found = [each for each in nodes if wanted in (each.uid, each.name)]
    if len(found) != 1:
        names = ", ".join(each.name for each in nodes)
        what = "several nodes have this name, give the uid" if found else f"no such node; the nodes are: {names}"
        raise RequestError(BAD_REQUEST, f"node {wanted!r}: {what}")
    return found[0]


def _traits(info: NodeInfo) -> dict[str, str]:
    """The digests and the bus version that should be equal on all nodes, as far as this node reports them."""
    return {**info.settings, **({"bus": str(info.bus)} if info.bus else {})}


def _usual(nodes: Sequence[NodeInfo]) -> dict[str, str]:
    """For each trait, the value that more than half of the reporting nodes have; empty without such a majority."""
    usual = {}
    for name in {name for each in nodes for name in _traits(each)}:
        values = [traits[name] for each in nodes if name in (traits := _traits(each))]
        most = max(values, key=values.count)
        usual[name] = most if 2 * values.count(most) > len(values) else ""
    return usual


def _node_result(info: NodeInfo, now: float, usual: Mapping[str, str]) -> NodeResult:
    digest = hashlib.sha256("".join(info.settings.values()).encode()).hexdigest()[:DIGEST]
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
        bus=info.bus,
        settings=digest if info.settings else "",
        differs=sorted(name for name, value in _traits(info).items() if value != usual[name]),
        # Clocks of two machines differ.
        uptime=max(int(now) - info.started_at, 0),
        process=Process(cpu=round(info.cpu_seconds, 2), rss=info.rss),
    )
