"""The relay, with a table and a node that fail in all ways."""

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.request_shapes import PublishRequest
from gateway.outbox import relay as module
from gateway.outbox.relay import Relay
from gateway.outbox.rows import Row, request_of, values
from tests.outbox.tables import NOW, Node, Table


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again, is at once."""
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE", "STANDBY"):
        monkeypatch.setattr(module, name, 0.0)


def run(table: Table, node: Node, until: Callable[[], bool] = lambda: True, steps: float = 0.0) -> Relay:
    """Run a relay until it has nothing to do and `until` agrees. Its clock goes `steps` seconds at each look."""
    now = iter(range(10**9))

    async def main() -> Relay:
        relay = Relay(table.opened, node, clock=lambda: next(now) * steps)
        table.on_idle = lambda: relay.stop() if until() else None
        async with asyncio.timeout(60):
            await relay.run()
        return relay

    return asyncio.run(main())


def test_rows_leave_in_order_one_of_a_channel_at_a_time() -> None:
    """Otherwise the second could be published although the first was not."""
    table, node = Table(), Node()
    for channel, data in [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("c", 1)]:
        table.add(channel, data)
    run(table, node)
    assert node.requests == [["a", "b", "c"], ["a"], ["a"]]
    assert [data for channel, data in node.published if channel == "a"] == [1, 2, 3]
    assert table.rows == {}


def test_what_fails_for_now_holds_up_its_channel_only() -> None:
    """Also when it alone fills what is read at once."""
    table, node = Table(), Node()
    for number in range(module.PAGE + 1):
        table.add("a", number)
    table.add("b", 0)
    node.fate = lambda request: "for now" if request.channel == "a" and ("b", 0) not in node.published else ""
    run(table, node, lambda: not table.rows)
    assert node.published == [("b", 0), *[("a", number) for number in range(module.PAGE + 1)]]


def test_a_channel_that_fails_is_not_tried_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of others come all the time, and do not wait for it."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 1000.0)
    table, node = Table(), Node()
    table.add("a", 0)
    node.fate = lambda request: "for now" if request.channel == "a" else ""
    looks = iter(range(5))

    def until() -> bool:
        number = next(looks)
        table.add("b", number)
        return number == 4

    run(table, node, until, steps=1)
    assert [data for channel, data in node.published if channel == "b"] == [0, 1, 2, 3]
    assert sum("a" in request for request in node.requests) == 1


def test_a_channel_that_failed_does_not_wait_until_others_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of others come faster than they can be published."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 2.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 4.0)
    table, node = Table(), Node()
    table.add("a", 0)
    failing = iter([True])

    def fate(request: PublishRequest) -> str:
        if request.channel == "a":
            return "for now" if next(failing, False) else ""
        if ("a", 0) not in node.published and len(node.published) < 1000:
            table.rows[10 + len(node.published)] = Row(
                10 + len(node.published), created_at=NOW, **values("b", len(node.published))
            )
        return ""

    node.fate = fate
    table.add("b", 0)
    run(table, node, lambda: not table.rows, steps=0.1)
    assert ("a", 0) in node.published
    assert len(node.published) < 1000


def test_few_channels_with_many_rows_do_not_hold_up_others() -> None:
    """A channel has one row on its way at a time, and that of another takes the way with it."""
    table, node = Table(), Node()
    for channel in "ab":
        for number in range(module.PAGE + 100):
            table.add(channel, number)
    table.add("c", 0)
    run(table, node)
    assert node.requests[0] == ["a", "b", "c"]
    assert table.rows == {}


def test_rows_that_come_while_a_page_takes_long_do_not_wait_for_its_end() -> None:
    """It is left after about a second."""
    table, node = Table(), Node()
    for number in range(100):
        table.add("a", number)

    def fate(request: PublishRequest) -> str:
        if len(node.requests) == 1:
            table.add("b", 0)
        return ""

    node.fate = fate
    run(table, node, steps=module.UNSETTLED / 5)
    assert ["a", "b"] in node.requests[1:20]
    assert [data for channel, data in node.published if channel == "a"] == list(range(100))


def test_what_is_read_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a thousand large rows would need a gigabyte."""
    monkeypatch.setattr(module, "READ_SIZE", 10_000)
    table, node = Table(), Node()
    for channel in "abc":
        for _ in range(3):
            table.add(channel, int("1" * 4000))
    run(table, node)
    assert table.largest < 20_000
    assert table.rows == {}


def test_a_stop_does_not_wait_for_rows() -> None:
    """The wait may be long (--poll), and an operator has no patience."""
    table, node = Table(), Node()

    async def main() -> None:
        relay = Relay(table.opened, node)
        idle = asyncio.Event()

        async def wait(seconds: float) -> None:
            idle.set()
            await asyncio.Event().wait()

        table.wait = wait  # type: ignore[method-assign]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(relay.run())
            await idle.wait()
            relay.stop()

    asyncio.run(main())


def test_what_is_refused_for_good_is_kept_with_the_error() -> None:
    """And is no obstacle to the others, of its channel too."""
    table, node = Table(), Node()
    table.add("a", 1)
    poison = table.add("a", 2)
    table.add("a", 3)
    strange = table.add("a", 4)
    table.rows[strange] = Row(strange, "a", '{"what": 1}', NOW)
    node.fate = lambda request: "for good" if request == request_of(table.rows[poison]) else ""
    run(table, node)
    assert node.published == [("a", 1), ("a", 3)]
    assert table.rows.keys() == {poison, strange}
    assert table.refused[poison] == "for good"
    assert "what" in table.refused[strange]


def test_what_was_published_is_removed_however_late() -> None:
    """Even if the node has forgotten the key by then: the relay has not."""
    table, node = Table(), Node()
    table.add("a", 1)
    failing = iter([True, True, True])

    def fails(statement: str) -> bool:
        node.keys.clear()
        return statement in ("remove", "open") and bool(node.published) and next(failing, False)

    table.fails = fails
    run(table, node)
    assert node.published == [("a", 1)]
    assert table.sessions == 2
    assert table.rows == {}


def test_a_relay_that_was_replaced_sends_no_more() -> None:
    """If it was suspended after it had read a page, it asks first whether it is still the active one."""
    table, node = Table(), Node()
    table.add("a", 1)
    asked: list[int] = []

    def fails(statement: str) -> bool:
        if statement == "remove":
            asked.append(len(node.published))
        return asked == [0]

    table.fails = fails
    run(table, node, lambda: not table.rows, steps=2 * module.UNSETTLED)
    assert asked[0] == 0
    assert node.published == [("a", 1)]
    assert table.sessions == 2


def test_a_server_that_took_over_may_give_ids_again() -> None:
    """Without the newest rows of the one before it: what has their ids now was not published."""
    table, node = Table(), Node()
    lost = table.add("a", 1)

    def fails(statement: str) -> bool:
        if statement != "remove" or table.rows[lost].channel != "a":
            return False
        table.rows[lost] = Row(lost, created_at=NOW, **values("b", 2))
        return True

    table.fails = fails
    run(table, node, lambda: not table.rows)
    assert node.published == [("a", 1), ("b", 2)]


def test_published_rows_do_not_wait_long_for_their_removal() -> None:
    """When a page takes long, they are removed in between: keys live for a limited time."""
    table, node = Table(), Node()
    for number in range(4):
        table.add("a", number)
    left: list[int] = []

    def fails(statement: str) -> bool:
        if statement == "remove":
            left.append(len(node.published))
        return False

    table.fails = fails
    run(table, node, steps=2 * module.UNSETTLED)
    assert sorted(set(left)) == [0, 1, 2, 3, 4]


def test_a_relay_stands_by_while_another_is_active() -> None:
    table, node = Table(), Node()
    table.add("a", 1)
    table.others = 3
    run(table, node)
    assert node.published == [("a", 1)]


def test_a_relay_that_stands_by_can_be_stopped() -> None:
    table, node = Table(), Node()
    table.add("a", 1)
    table.others = 10**9

    async def main() -> None:
        relay = Relay(table.opened, node)

        def fails(statement: str) -> bool:
            if table.others < 10**9 - 3:
                relay.stop()
            return False

        table.fails = fails
        async with asyncio.timeout(60):
            await relay.run()

    asyncio.run(main())
    assert node.published == []


def test_a_stop_waits_for_the_outcome_of_what_was_sent() -> None:
    """What was published is removed, or the next relay would publish it again."""
    table, node = Table(), Node()
    table.add("a", 1)
    second = table.add("a", 2)

    async def main() -> None:
        relay = Relay(table.opened, node)

        def fate(request: PublishRequest) -> str:
            relay.stop()
            return ""

        node.fate = fate
        async with asyncio.timeout(60):
            await relay.run()

    asyncio.run(main())
    assert node.published == [("a", 1)]
    assert table.rows.keys() == {second}


def test_a_request_has_room_for_at_least_one_row() -> None:
    """And never more than a node takes at once."""
    table, node = Table(), Node()
    for channel in "abc":
        table.add(channel, int("1" * 4000))
    large = module.SENT
    module.SENT = 9000
    try:
        run(table, node)
        assert node.requests == [["a", "b"], ["c"]]
        node.requests.clear()
        module.SENT = 1
        for channel in "abc":
            table.add(channel, 1)
        run(table, node)
        assert node.requests == [["a"], ["b"], ["c"]]
    finally:
        module.SENT = large


@given(st.randoms(use_true_random=False), st.lists(st.sampled_from("abc"), max_size=30))
def test_everything_arrives_once_and_in_order(chance: random.Random, channels: list[str]) -> None:
    """Whatever fails, for a while."""
    table, node = Table(), Node()
    for number, channel in enumerate(channels):
        table.add(channel, number)
    troubles = [40]

    def trouble(often: float) -> bool:
        if troubles[0] and chance.random() < often:
            troubles[0] -= 1
            return True
        return False

    table.fails = lambda statement: trouble(0.2)
    node.fate = lambda request: chance.choice(["lost", "for now"]) if trouble(0.3) else ""
    run(table, node, lambda: not table.rows)
    for name in "abc":
        expected = [number for number, channel in enumerate(channels) if channel == name]
        assert [number for channel, number in node.published if channel == name] == expected
    assert len(node.published) == len(channels)
