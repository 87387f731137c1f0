"""What subscribers are told when publications may have been missed."""

from collections.abc import Iterator

import pytest

from gateway.errors import UNSUBSCRIBED_INSUFFICIENT
from gateway.hub import hub
from gateway.hub.fanout import OVERHEAD
from gateway.hub.hub import TURN_WRITES
from gateway.messages import Channel, Publication
from gateway.node.slices import SLICE
from tests.node.site import QUIET, ROOM, Site, joined
from tests.node.world import ROOM as KEPT_ROOM
from tests.node.world import World


def test_a_gap_is_told_in_slices(site: Site) -> None:
    """It may concern every subscription there is; each is told once, and counted."""
    clients = site.clients(2 * SLICE + 50)
    for client in clients:
        joined(site, ROOM, client)
    site.node.on_gap([ROOM])
    assert sum(len(client.asked) for client in clients) == SLICE
    site.scheduler.run()
    assert all(client.asked == [(ROOM.name, UNSUBSCRIBED_INSUFFICIENT)] for client in clients)
    assert site.metrics.gaps.value == len(clients)


class Walked(list[Channel]):
    """Counts how many of it were looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[Channel]:
        for channel in super().__iter__():
            self.looked_at += 1
            yield channel


def test_a_gap_of_many_channels_does_not_hold_the_loop(site: Site) -> None:
    """Whether or not somebody is to be told of them: no turn looks at more than a slice."""
    quiet = [Channel("default", f"{QUIET}:{number}") for number in range(3 * SLICE)]
    channels = Walked([*quiet, ROOM])
    (client,) = site.clients(1)
    joined(site, ROOM, client)
    site.node.on_gap(channels)
    before = channels.looked_at
    assert before <= SLICE
    while site.scheduler.turn():
        assert channels.looked_at - before <= SLICE
        before = channels.looked_at
    assert client.asked == [(ROOM.name, UNSUBSCRIBED_INSUFFICIENT)]


def test_who_left_before_its_turn_came_is_not_told(site: Site) -> None:
    """And nothing breaks when telling one client changes who is subscribed."""
    early, late = site.clients(2)
    rooms = [Channel("default", f"room{number}") for number in range(2 * SLICE)]
    joined(site, rooms[0], early)
    encoder = joined(site, rooms[-1], late)
    site.node.on_gap(rooms)
    site.messaging.leave(rooms[-1], rooms[-1], late, encoder)
    site.scheduler.run()
    assert (len(early.asked), late.asked) == (1, [])
    assert site.metrics.gaps.value == 1


def test_a_namespace_may_keep_gaps_to_itself(site: Site) -> None:
    """announce_gaps."""
    quiet = Channel("default", f"{QUIET}:room")
    (client,) = site.clients(1)
    joined(site, quiet, client)
    joined(site, ROOM, client)
    site.node.on_gap([quiet, ROOM])
    assert client.asked == [(ROOM.name, UNSUBSCRIBED_INSUFFICIENT)]


def test_what_cannot_be_read_is_looked_for_in_the_stream() -> None:
    """A node of another version publishes; on channels without a stream there is nothing to look for."""
    world = World()
    reader = world.reader().come()
    world.publish(2)
    world.bus.clear()
    world.node.on_unreadable([ROOM, KEPT_ROOM])
    world.scheduler.run()
    assert (reader.got, reader.gaps) == ([1, 2], 0)


def test_what_the_fanout_drops_of_a_live_channel_is_told_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overload is a gap like any other; a namespace may keep it to itself."""
    monkeypatch.setattr(hub, "WAITING_LIMIT", 10 * OVERHEAD)
    quiet = Channel("default", f"{QUIET}:room")
    clients = site.clients(TURN_WRITES + 1)
    for client in clients:
        joined(site, ROOM, client)
        joined(site, quiet, client)
    for _ in range(20):
        site.node.on_events(ROOM, [Publication(ROOM, b"x", time=1)])
        site.node.on_events(quiet, [Publication(quiet, b"y", time=1)])
    site.scheduler.run()
    told = (ROOM.name, UNSUBSCRIBED_INSUFFICIENT)
    assert {client.asked.count(told) for client in clients} == {1}
    assert site.metrics.gaps.value == len(clients)
    site.node.on_events(ROOM, [Publication(ROOM, b"z", time=1)] * 20)
    site.scheduler.run()
    assert {client.asked.count(told) for client in clients} == {2}
