"""Kicked through one node: both nodes act, and the unmodified SDK does what its user needs."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import centrifuge
import pytest

from gateway.client import AsyncClient
from gateway.tokens import connection_token, subscription_token
from tests.clusters import Cluster, running_cluster
from tests.python_sdk import disconnect

pytestmark = pytest.mark.slow

PATIENCE = 60.0
CHANNEL = "$room"


class Events(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]  # the package has no types
    """What happens to a subscription, in its order."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        self.seen.put_nowait(("subscribed", 0))

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        self.seen.put_nowait(("unsubscribed", ctx.code))

    async def on_error(self, ctx: centrifuge.SubscriptionErrorContext) -> None:
        self.seen.put_nowait(("error", getattr(ctx.error, "code", 0)))

    async def next(self) -> tuple[str, int]:
        async with asyncio.timeout(PATIENCE):
            return await self.seen.get()


class Backend:
    """Gives the user tokens for the channel: the one it has, until the user is banned or let in again."""

    def __init__(self, sign: Callable[..., str]) -> None:
        self._sign = sign
        self.token = sign()
        self.banned = False

    async def give(self, channel: str) -> str:
        if self.banned:
            raise centrifuge.UnauthorizedError
        return self.token

    def let_in(self, issued_before: int) -> None:
        self.banned = False
        self.token = self._sign(now=issued_before)


def test_kicked_on_every_node(cluster: Cluster) -> None:
    """The older token is refused everywhere and the backend asked for another; a fresh one is good everywhere."""
    asyncio.run(_kicked_on_every_node(cluster))


async def _kicked_on_every_node(cluster: Cluster) -> None:
    backend = Backend(partial(subscription_token, cluster.hmac_secret, "ann", CHANNEL))
    connection = connection_token(cluster.hmac_secret, "ann")
    clients, events = [], [Events() for _ in cluster.nodes]
    for node, each in zip(cluster.nodes, events, strict=True):
        client = centrifuge.Client(
            f"{node.ws}/connection/websocket", token=connection, min_reconnect_delay=0.05, max_reconnect_delay=0.5
        )
        clients.append(client)
        await client.connect()
        subscription = client.new_subscription(CHANNEL, events=each, get_token=backend.give)
        await subscription.subscribe()
        assert await each.next() == ("subscribed", 0)
    subscriptions = [client.get_subscription(CHANNEL) for client in clients]

    backend.banned = True
    async with AsyncClient(cluster.nodes[0].url, cluster.api_key) as gateway:
        kicked = await gateway.kick("ann", CHANNEL)
        assert kicked.num_clients == len(clients)
        for each, subscription in zip(events, subscriptions, strict=True):
            assert await each.next() == ("unsubscribed", 2000)
            await subscription.subscribe()
            # With the token it had.
            assert await each.next() == ("error", 109)
            assert await each.next() == ("unsubscribed", 1)
        backend.let_in(kicked.issued_before)
        for each, subscription in zip(events, subscriptions, strict=True):
            await subscription.subscribe()
            assert await each.next() == ("subscribed", 0)
        assert all(client.state == centrifuge.ClientState.CONNECTED for client in clients)
        for client in clients:
            await disconnect(client)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(nodes=2) as running:
        yield running
