"""Messaging: broker and hub together."""

import asyncio
from typing import Any

from gateway.messages import NO_OPTIONS, PUBLISHED, Publication
from tests.node.site import ROOM, Site, joined


def test_a_publication_of_the_broker_reaches_who_joined(site: Site) -> None:
    """And no longer who left; the registry knows how many there are."""
    asyncio.run(site.broker.start(site.node))
    (client,) = site.clients(1)
    encoder = joined(site, ROOM, client)
    assert site.registry.occupancy == {ROOM: 1}
    outcomes: list[Any] = []
    site.messaging.publish(Publication(ROOM, b"1"), NO_OPTIONS, outcomes.append)
    assert outcomes == [PUBLISHED]
    assert client.asked == [b"1"]
    site.messaging.leave(ROOM, ROOM, client, encoder)
    assert site.registry.occupancy == {ROOM: 0}
    assert site.broker.subscribed == set()
