"""One of the nodes does what has to be done once per cluster."""

from typing import Any

from gateway.broker.redis.keyspace import LeaseId

# Seconds for which a node stays elected after it was asked.
TERM = 5


class Election:
    """Raises errors of redis-py."""

    def __init__(self, client: Any, key: bytes) -> None:
        """`client` of redis-py. `key` has the lease of the node that is elected."""
        self._client = client
        self._key = key

    async def is_won_by(self, lease: LeaseId) -> bool:
        """Whether this node is elected now, for another TERM. Ask more often than that."""
        if await self._client.set(self._key, lease, nx=True, ex=TERM):
            return True
        if await self._client.get(self._key) != lease.encode():
            return False
        return bool(await self._client.expire(self._key, TERM))

    async def step_down(self, lease: LeaseId) -> None:
        """Let another node be elected at once."""
        if await self._client.get(self._key) == lease.encode():
            await self._client.delete(self._key)
