"""Work that is too much for one turn of the event loop."""

from collections.abc import Iterator
from itertools import islice

from gateway.scheduler import Scheduler

# Steps of one turn: channels looked at and subscriptions told after a gap, channels that clients leave.
SLICE = 200


def in_slices(steps: Iterator[None], scheduler: Scheduler) -> None:
    """A slice of the steps now, the rest in the next turns of the loop."""
    if sum(1 for _ in islice(steps, SLICE)) == SLICE:
        scheduler.call_soon(lambda: in_slices(steps, scheduler))
