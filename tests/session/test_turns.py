"""One client's requests have their share of a turn of the loop."""

from typing import Any

import pytest

from gateway import errors
from gateway.session.inbox import TURN_REQUESTS
from tests.session.conftest import World


def publishes(count: int) -> list[dict[str, Any]]:
    return [{"id": number, "publish": {"channel": "room", "data": number}} for number in range(1, count + 1)]


def test_many_requests_of_one_frame_are_carried_out_in_turns() -> None:
    """Nothing is read meanwhile; all are answered, in order."""
    world = World(limits={"publishes_per_second": 0, "commands_per_second": 0})
    client = world.connect()
    client.session.received("\n".join(map(str, publishes(500))).replace("'", '"').encode(), binary=False)
    assert world.metrics.commands.values["publish"] == TURN_REQUESTS
    turns = 0
    while not client.transport.reading:
        world.scheduler.turn()
        turns += 1
    assert turns == 500 // TURN_REQUESTS
    assert [reply["id"] for reply in client.got()] == list(range(1, 501))


@pytest.mark.parametrize("after", [1, 3])
def test_what_waits_for_its_turn_is_dropped_with_the_connection(after: int) -> None:
    world = World(limits={"publishes_per_second": 0, "commands_per_second": 0})
    client = world.connect()
    client.session.received("\n".join(map(str, publishes(500))).replace("'", '"').encode(), binary=False)
    for _ in range(after):
        world.scheduler.turn()
    done = world.metrics.commands.values["publish"]
    client.session.disconnect(errors.FORCE_DISCONNECT)
    world.scheduler.run()
    assert world.metrics.commands.values["publish"] == done < 500
