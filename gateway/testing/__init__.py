"""Tests of applications: a whole node in the test's own process, without sockets and without Redis.

    async def test_members_hear_each_other() -> None:
        async with TestGateway({"namespaces": {"room": {}}}, hooks=hooks) as gateway:
            ann = await gateway.connect("ann")
            await ann.subscribe("room:cats")
            bob = await gateway.connect("bob")
            await bob.publish("room:cats", {"text": "hi"})
            assert (await ann.next()).data == {"text": "hi"}

Nothing is simulated but the socket and, where a test wants it, the clock: settings, hooks, permissions, history and
recovery are those of a node.
"""

from gateway.testing.clients import Closed, Refused, TestClient
from gateway.testing.clock import ManualClock
from gateway.testing.gateways import TestGateway
from gateway.testing.messages import Publication, Subscribed
from gateway.testing.sync import SyncTestClient, SyncTestGateway

__all__ = [
    "Closed",
    "ManualClock",
    "Publication",
    "Refused",
    "Subscribed",
    "SyncTestClient",
    "SyncTestGateway",
    "TestClient",
    "TestGateway",
]
