"""What stops the clean-up after others, and what does not."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from gateway.broker.redis.reaper import Reaper
from gateway.errors import BrokerUnavailable
from gateway.guard import Guard
from gateway.metrics import Metrics


def work_on(error: Exception, metrics: Metrics) -> bool:
    """Whether an entry whose work fails so is done."""

    async def work() -> None:
        raise error

    reaper = cast(Reaper, SimpleNamespace(_guard=Guard(metrics.faults)))
    return asyncio.run(Reaper._by_itself(reaper, "entry", work()))


@pytest.mark.parametrize("error", [ResponseError("WRONGTYPE somebody else's key"), ValueError("bad data")])
def test_bad_data_in_one_entry_does_not_stop_the_others(error: Exception) -> None:
    """It is counted as a fault."""
    metrics = Metrics()
    assert not work_on(error, metrics)
    assert metrics.faults.values == {"reaper": 1}


@pytest.mark.parametrize(
    "error",
    [
        LostConnection("reset"),
        BrokerUnavailable("no link"),
        ReadOnlyError("You can't write against a read only replica."),
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ResponseError("STALE another primary has taken over"),
    ],
)
def test_a_server_that_takes_nothing_ends_the_round(error: Exception) -> None:
    """It is no fault of a node: the next round begins again, at the server that is the primary then."""
    metrics = Metrics()
    with pytest.raises(type(error)):
        work_on(error, metrics)
    assert metrics.faults.values == {}
