"""What the checker works with, and what it can find."""

from array import array
from enum import Enum
from typing import NamedTuple


class Fault(Enum):
    """What can be wrong."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    MISORDERED = "misordered"
    GAP = "undeclared gap"
    FORKED = "two publications at one position"
    FORGED = "never published"
    DENIED = "delivered although its publish was refused"
    EPOCH = "new epoch without a cause"
    RECOVERY = "recoveries failed where the history held the range"
    STALE = "not at the top in the end"


class Violation(NamedTuple):
    """One fault found, with what helps to find its cause."""

    fault: Fault
    channel: str
    client: str
    text: str
    events: tuple[object, ...]


class Kept(NamedTuple):
    """What of a stream a recovery can still have: publications and bytes at most, seconds after the newest."""

    publications: int
    bytes: int
    seconds: float


class Top(NamedTuple):
    """Where a channel's stream ends."""

    epoch: str
    offset: int

    @property
    def is_unused(self) -> bool:
        """Whether nothing was published yet: epochs of such a channel are GENERATION-TIME, and of no stream."""
        return not self.offset and "-" in self.epoch

    def is_same(self, other: "Top") -> bool:
        """Whether it is the same place: of an unused channel also when it was looked at another time."""
        return self == other or (self.is_unused and other.is_unused)

    def began_after(self, other: "Top") -> bool:
        """Whether the other is of an unused channel, and this of what it is now, or has become since."""
        generation = other.epoch.partition("-")[0]
        return other.is_unused and self.epoch.startswith((f"{generation}-", f"{generation}."))


class Continuity(NamedTuple):
    """A time in which a subscriber was told of no gap, and the last position it reached."""

    began: float
    ended: float
    stream: "Stream"
    # What it reached the client with is after `first`, up to `last`.
    first: int
    last: int


class Stream:
    """One epoch of a channel: which publication stands at which offset."""

    __slots__ = ("channel", "epoch", "ids", "number")

    def __init__(self, number: int, channel: str, epoch: str) -> None:
        self.number = number
        self.channel = channel
        self.epoch = epoch
        # By offset - 1; negative where no publication is known, see Checker.
        self.ids = array("i")
