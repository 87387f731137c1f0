"""Splits work that is too long for one turn of the event loop."""

from collections.abc import Iterator
from itertools import islice

from gateway.scheduler import Scheduler

# Steps per turn: channels checked or subscriptions told after a gap, or channels left by disconnected clients.
SLICE = 200


def in_slices(steps: Iterator[None], scheduler: Scheduler) -> None:
    """Run one slice of the steps now, and the rest in the next turns of the loop."""
    if sum(1 for _ in islice(steps, SLICE)) == SLICE:
        scheduler.call_soon(lambda: in_slices(steps, scheduler))
