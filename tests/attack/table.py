"""What is reported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.attack.attacker import Tally

_MIB = 2**20

HEADS = (
    f"{'attack':19} {'p50':>6} {'p99':>6} {'max':>6} {'sink':>6} {'ratio':>6} {'failed':>7} {'loop':>6} {'RSS+':>5} "
    f"{'peak':>5} {'socks':>5} {'keys':>6} {'Redis':>5} {'conns':>6} {'messages':>8} {'MB':>7} "
)
LEGEND = """\
p50 p99 max  milliseconds that a well-behaved client waits for its own publication, 20 times a second, from the time
             each was due; with `silent`: to connect and authenticate from another address
sink         p99 of the same client at an idle node, while a process beside it takes as much of the same attacker and
             throws it away: what the machine itself costs
ratio        p99 with the attack by p99 beside the sink; aim: at most 3
failed       of the client's attempts: refused, closed, or not done after 5 s; they count as endless (never)
loop         milliseconds: the most by which the node's event loop was late, looked at every 100 ms; aim: at most 20;
             never: the node did not tell within 10 s after the attack
RSS+ peak    MiB: how much larger the node is after the attack, and its largest size while it went on
socks        MiB: by how much the kernel's socket buffers grew at most, of the whole machine
keys Redis   keys, and MiB of memory, that came into Redis; a few are of the node itself
conns messages MB  what the attacker got through: connections, messages or requests, 10^6 bytes"""


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that so large a share of all values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


@dataclass(frozen=True)
class Result:
    """One attack. Times are in seconds."""

    name: str
    sink: Sequence[float]
    attack: Sequence[float]
    loop: float
    grown: int
    peak: int
    keys: int
    redis: int
    # Of the kernel, for all sockets of the machine.
    sockets: int
    tally: Tally
    note: str = ""

    @property
    def ratio(self) -> float:
        """How much worse than beside the sink, at the 99th percentile."""
        with_attack, beside_sink = percentile(self.attack, 0.99), percentile(self.sink, 0.99)
        return with_attack / beside_sink if math.isfinite(beside_sink) else math.nan

    @property
    def failed(self) -> str:
        return f"{sum(map(math.isinf, self.attack))}/{len(self.attack)}"


def line(result: Result) -> str:
    """One line of the table."""
    times = [percentile(result.attack, share) for share in (0.5, 0.99, 1.0)]
    p50, p99, longest = map(_milliseconds, times)
    tally = result.tally
    text = (
        f"{result.name:19} {p50:>6} {p99:>6} {longest:>6} {_milliseconds(percentile(result.sink, 0.99)):>6} "
        f"{result.ratio:>6.1f} {result.failed:>7} {_milliseconds(result.loop):>6} {result.grown / _MIB:>5.0f} "
        f"{result.peak / _MIB:>5.0f} {result.sockets / _MIB:>5.0f} {result.keys:>6} {result.redis / _MIB:>5.1f} "
        f"{tally.connections:>6} {short(tally.messages):>8} {tally.bytes / 1e6:>7.1f} {result.note}"
    )
    return text.rstrip()


def short(count: int) -> str:
    """A count in few characters, in thousands (k), millions (M) or 10^9 (G)."""
    if count < 10_000:
        return str(count)
    unit = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000**unit:.1f}{' kMG'[unit]}"


def _milliseconds(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "never"
    return f"{seconds * 1e3:.{1 if seconds < 1 else 0}f}"
