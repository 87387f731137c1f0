"""What subscribers are told when publications may have been missed."""

from collections.abc import Iterator

from gateway.errors import UNSUBSCRIBED_INSUFFICIENT
from gateway.messages import Channel
from gateway.node.node import GAP_SLICE
from tests.node.site import QUIET, ROOM, Site, joined


def test_a_gap_is_told_in_slices(site: Site) -> None:
    """It may concern every subscription there is; each is told once, and counted."""
    clients = site.clients(2 * GAP_SLICE + 50)
    for client in clients:
        joined(site, ROOM, client)
    site.node.on_gap([ROOM])
    assert sum(len(client.asked) for client in clients) == GAP_SLICE
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
    quiet = [Channel("default", f"{QUIET}:{number}") for number in range(3 * GAP_SLICE)]
    channels = Walked([*quiet, ROOM])
    (client,) = site.clients(1)
    joined(site, ROOM, client)
    site.node.on_gap(channels)
    before = channels.looked_at
    assert before <= GAP_SLICE
    while site.scheduler.turn():
        assert channels.looked_at - before <= GAP_SLICE
        before = channels.looked_at
    assert client.asked == [(ROOM.name, UNSUBSCRIBED_INSUFFICIENT)]


def test_who_left_before_its_turn_came_is_not_told(site: Site) -> None:
    """And nothing breaks when telling one client changes who is subscribed."""
    early, late = site.clients(2)
    rooms = [Channel("default", f"room{number}") for number in range(2 * GAP_SLICE)]
    joined(site, rooms[0], early)
    encoder = joined(site, rooms[-1], late)
    site.node.on_gap(rooms)
    site.node.leave(rooms[-1], rooms[-1], late, encoder)
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
