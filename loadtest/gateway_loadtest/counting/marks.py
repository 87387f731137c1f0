"""The mark in every publication, by which it is found in whatever a server wraps around it."""

import re
from typing import NamedTuple

# Characters that are their own escape in JSON, URLs and every text protocol.
_PADDING, _END = "x", "~"


class Mark(NamedTuple):
    """What a mark says."""

    channel: int
    # From 1, by one for each publication of the channel.
    number: int
    # When it was due, CLOCK_MONOTONIC, nanoseconds: the same clock in every process of a machine.
    due: int


class Marks:
    """The marks of one run. Others, of runs before that a history still holds, are not seen."""

    def __init__(self, run: str, size: int) -> None:
        """`run`: letters and digits. `size`: bytes of a payload; at least as many as a mark needs."""
        self._head = f"~{run}~"
        self.size = size
        # Finds all payloads in a frame: (the payload, channel, number, due). One that is not of `size` was changed.
        self.find = re.compile(rf"(~{run}~(\d+)~(\d+)~(\d+)~{_PADDING}*{_END})".encode()).findall

    def payload(self, mark: Mark) -> str:
        return f"{self._head}{mark.channel}~{mark.number}~{mark.due}~".ljust(self.size - 1, _PADDING) + _END
