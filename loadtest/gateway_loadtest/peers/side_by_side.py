"""What was found of the peers, as it is written to JSON and printed."""

from collections.abc import Sequence

import msgspec

from gateway_loadtest import __version__

# The one that the others are compared with.
LIMIT = "C send loop"


class Fanout(msgspec.Struct, frozen=True):
    """With so many subscribers in each channel."""

    members: int
    # Deliveries per second that were asked for, and came.
    asked: float
    received: float
    # CPU microseconds of all the peer's processes by delivery, Redis left out; and of Redis by publication.
    per_delivery: float
    redis_per_publish: float
    # Milliseconds from when a publication was due until a subscriber had it.
    p50: float
    p99: float
    lost: int
    # Why the machine or the generator may have been in the way; CPU times hold all the same.
    remarks: list[str] = []

    @property
    def per_core(self) -> float:
        """Deliveries per second that a core would be busy with."""
        return 1e6 / self.per_delivery if self.per_delivery else 0.0


class Peer(msgspec.Struct, frozen=True):
    """One that was measured."""

    name: str
    version: str
    nodes: int
    # Whether it answers publishes, which costs it something.
    acknowledges: bool
    # CPU microseconds to connect and subscribe; bytes of memory by connection that is subscribed and idle.
    per_connect: float
    memory: float
    fanouts: list[Fanout]

    def fanout(self, members: int) -> Fanout | None:
        return next((each for each in self.fanouts if each.members == members), None)


class SideBySide(msgspec.Struct, frozen=True):
    """All peers of one run."""

    # ISO 8601, UTC.
    started: str
    machine: str
    # Connections while memory was read, and while something was published.
    idle: int
    subscribers: int
    # Bytes of a publication, and seconds for which was published.
    payload: int
    seconds: float
    peers: list[Peer]
    # Why a peer was not measured, and how to get it.
    missing: dict[str, str]
    # The limit once more at the end of the run: what lies between the two is the machine.
    again: Peer | None = None
    version: str = __version__


def table(found: SideBySide) -> str:
    """For people: two tables, who was missing, and what to know of the figures."""
    limit = next((each for each in found.peers if each.name == LIMIT), None)
    fanouts = sorted({fanout.members for peer in found.peers for fanout in peer.fanouts})
    acknowledge = [peer for peer in found.peers if peer.acknowledges]
    blocks = [
        [
            f"{found.machine}; {found.subscribers} subscribers, {found.payload} bytes, "
            f"{found.seconds:g} s each; {found.idle} connections, each with a subscription, for the memory",
            "us: CPU of all processes of a peer, Redis apart; of a delivery with its share of the publication. "
            + (f"(x): times the {LIMIT}. " if limit else "")
            + "@: subscribers per channel. Memory: resident, of the processes.",
            "Publications are acknowledged by: " + ("; ".join(each.name for each in acknowledge) or "nobody"),
        ],
        _aligned([_cost_head(fanouts), *(_costs(peer, limit, fanouts) for peer in found.peers)]),
        ["What that CPU time makes of one core, and how late publications were at the rate that was asked for:"],
        _aligned([_rate_head(fanouts), *(_rates(peer, fanouts) for peer in found.peers)]),
        [
            f"{peer.name} @{fanout.members}: {remark}"
            for peer in found.peers
            for fanout in peer.fanouts
            for remark in fanout.remarks
        ],
        [_again(limit, found.again, fanouts)] if limit and found.again else [],
        [f"{peer.name}: {peer.version}" for peer in found.peers],
        [f"missing: {name}: {reason}" for name, reason in found.missing.items()],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _again(limit: Peer, again: Peer, fanouts: Sequence[int]) -> str:
    """How far ratios are to be trusted."""
    found = []
    for members in fanouts:
        before, after = limit.fanout(members), again.fanout(members)
        if before and after and before.per_delivery:
            drift = after.per_delivery / before.per_delivery - 1
            found.append(f"{after.per_delivery:.1f} us @{members} ({drift:+.0%})")
    return f"The {LIMIT} once more at the end: {', '.join(found)}. Ratios are no better than that."


def _cost_head(fanouts: Sequence[int]) -> list[str]:
    costs = [f"us/delivery @{members}" for members in fanouts]
    return ["peer", *costs, "memory/connection", "us/connect", *(f"Redis us/publish @{each}" for each in fanouts[-1:])]


def _costs(peer: Peer, limit: Peer | None, fanouts: Sequence[int]) -> list[str]:
    cells = []
    for members in fanouts:
        mine, other = peer.fanout(members), limit.fanout(members) if limit else None
        cells.append(_compared(mine.per_delivery if mine else 0.0, other.per_delivery if other else 0.0, 1))
    of_redis = [peer.fanout(members) for members in fanouts[-1:]]
    return [
        peer.name,
        *cells,
        f"{peer.memory / 1024:.1f} KiB",
        _compared(peer.per_connect, limit.per_connect if limit else 0.0, 0),
        *(f"{each.redis_per_publish:.0f}" if each and each.redis_per_publish else "-" for each in of_redis),
    ]


def _rate_head(fanouts: Sequence[int]) -> list[str]:
    return [
        "peer",
        *(f"deliveries/s @{members}" for members in fanouts),
        *(f"p99 ms @{members}" for members in fanouts),
        "lost",
    ]


def _rates(peer: Peer, fanouts: Sequence[int]) -> list[str]:
    found = [peer.fanout(members) for members in fanouts]
    return [
        peer.name,
        *(f"{each.per_core:,.0f}" if each and each.per_core else "-" for each in found),
        *(f"{each.p99:.1f}" if each else "-" for each in found),
        f"{sum(each.lost for each in found if each):,}",
    ]


def _compared(mine: float, limit: float, digits: int) -> str:
    """Zero is a figure that could not be had."""
    if not mine:
        return "-"
    return f"{mine:.{digits}f} ({mine / limit:.1f}x)" if limit else f"{mine:.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
