"""The short profile of the fault suite: every kind of fault once, on real nodes and a real Valkey."""

import asyncio

import pytest
import uvloop

from tests.faults.faults import DURABLE, KINDS
from tests.faults.run import Run, folder
from tests.faults.site import SHORT

SEED = 7
# Characters of each process's log that a failure shows.
LOG_TAIL = 3_000


@pytest.mark.slow
def test_nothing_is_lost_silently() -> None:
    """No publication is lost, doubled or misordered without a word, whatever fails; and recoveries succeed."""
    perform(Run(SEED, SHORT, print), list(KINDS))


@pytest.mark.slow
def test_a_durable_valkey_keeps_the_streams() -> None:
    """Told that it loses nothing, the nodes go on where they were: no subscriber hears of a gap."""
    perform(Run(SEED, SHORT, print, durable=True), list(DURABLE))


def perform(run: Run, names: list[str]) -> None:
    with folder() as place, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run.run(names, 0.0, place))
        if run.failures:
            for log in sorted(place.rglob("*.log")):
                print(f"--- {log.name}", log.read_text(errors="replace")[-LOG_TAIL:], sep="\n")
    print(run.table())
    assert run.failures == []
    assert set(run.rows) == set(names)
