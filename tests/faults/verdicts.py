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
        # By offset - 1; -1 where nobody has told yet.
        self.ids = array("i")
