"""What was found of the peers, as it is written to JSON and printed."""

from collections.abc import Sequence

import msgspec

from loadtest import __version__

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
    # CPU microseconds to connect and subscribe; bytes of memory by connection that is subscribed and idle.
    per_connect: float
    memory: float
    fanouts: list[Fanout]

    def fanout(self, members: int) -> Fanout | None:
        return next((each for each in self.fanouts if each.members == members), None)


class Comparison(msgspec.Struct, frozen=True):
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
    version: str = __version__


def table(comparison: Comparison) -> str:
    """For people: the figures, and in brackets how many times those of the C send loop they are."""
    limit = next((each for each in comparison.peers if each.name == LIMIT), None)
    fanouts = sorted({fanout.members for peer in comparison.peers for fanout in peer.fanouts})
    head = [
        "peer",
        *(f"us/delivery @{members}" for members in fanouts),
        *(f"deliveries/s/core @{members}" for members in fanouts),
        "memory/conn",
        "us/connect",
        f"Redis us/publish @{fanouts[-1]}" if fanouts else "",
        "lost",
    ]
    rows = [_row(peer, limit, fanouts) for peer in comparison.peers]
    lines = _aligned([head, *rows])
    lines[1:1] = ["-" * len(lines[0])]
    about = (
        f"{comparison.machine}; {comparison.subscribers} subscribers, {comparison.payload} bytes, "
        f"{comparison.seconds:g} s each; memory with {comparison.idle} idle subscribed connections. "
        f"us: CPU of all processes of the peer, Redis apart. (x): times the {LIMIT}. "
        "deliveries/s/core: what that CPU time makes of one core."
    )
    missing = [f"missing: {name}: {reason}" for name, reason in comparison.missing.items()]
    notes = [
        f"{peer.name} @{fanout.members}: {remark}"
        for peer in comparison.peers
        for fanout in peer.fanouts
        for remark in fanout.remarks
    ]
    versions = [f"{peer.name}: {peer.version}" for peer in comparison.peers]
    return "\n".join([*lines, "", about, *versions, *notes, *missing])


def _row(peer: Peer, limit: Peer | None, fanouts: Sequence[int]) -> list[str]:
    costs, rates = [], []
    for members in fanouts:
        mine, other = peer.fanout(members), limit.fanout(members) if limit else None
        if mine is None or not mine.per_delivery:
            costs.append("-")
            rates.append("-")
            continue
        costs.append(f"{mine.per_delivery:.1f}{_ratio(mine.per_delivery, other.per_delivery if other else 0)}")
        rates.append(f"{mine.per_core:,.0f}")
    last = peer.fanout(fanouts[-1]) if fanouts else None
    redis = f"{last.redis_per_publish:.0f}" if last and last.redis_per_publish else "-"
    connect = f"{peer.per_connect:.0f}{_ratio(peer.per_connect, limit.per_connect if limit else 0)}"
    lost = sum(each.lost for each in peer.fanouts)
    return [peer.name, *costs, *rates, f"{peer.memory / 1024:.1f} KiB", connect, redis, f"{lost:,}"]


def _ratio(mine: float, limit: float) -> str:
    return f" ({mine / limit:.1f}x)" if limit else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
