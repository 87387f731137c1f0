"""The publisher for threads."""

import os
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from gateway.broker.redis.link import pack
from gateway.broker.redis.posted_settings import UnknownSettings
from gateway.broker.redis.publish_commands import is_lost, outcome_of, publish_command
from gateway.broker.redis.topology import Topology
from gateway.client import commands
from gateway.client.commands import Command
from gateway.client.connection import describe
from gateway.errors import BrokerUnavailable, ConfigError
from gateway.hooks.hooks import Hooks
from gateway.publisher.connections import Connection, Pool
from gateway.publisher.job import Item, Job, by_shard, to_user
from gateway.publisher.known import DIGEST, DOCUMENT, STALE_AFTER, Known, known_of
from gateway.publisher.place import Place, place_of

P = ParamSpec("P")
R = TypeVar("R")


def _method(build: Callable[P, Command[R]]) -> "Callable[Concatenate[Publisher, P], R]":
    def method(publisher: "Publisher", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return publisher._carry_out(build(*args, **kwargs))

    describe(method, build)
    return method


class Publisher:
    """Publishes into the Redis of the nodes. One object serves all threads, and may be made when a module is imported.

    Methods raise ClientError. Connections are made when they are needed, and in a forked process anew.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        prefix: str | None = None,
        tls_ca_file: str | None = None,
        timeout: float = 5.0,
        retries: int = 2,
        hooks: Hooks | None = None,
        connections: int = 4,
    ) -> None:
        """`redis_url`, `prefix`, `tls_ca_file`: as the nodes have them; GATEWAY_REDIS__... if they are not given.

        `timeout`: seconds for a call, with its retries. `hooks`: whose payload models publications have to fit.
        `connections`: at most so many in a process. Raises ConfigError.
        """
        if connections < 1:
            raise ConfigError(f"the connections of the publisher: expected at least 1, got {connections}")
        self._place = place_of(redis_url, prefix, tls_ca_file, timeout, retries, hooks)
        self._connections = connections
        # What this process has. No lock guards it, since a fork could copy it while a thread holds it.
        self._processes: dict[int, _Process] = {}

    publish = _method(commands.publish)
    broadcast = _method(commands.broadcast)
    to_user = _method(to_user)

    def close(self) -> None:
        """Close the connections. A later call makes new ones."""
        if (process := self._processes.pop(os.getpid(), None)) is not None:
            process.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _carry_out(self, command: Command[R]) -> R:
        job = Job(command, self._place.tries(), retries=self._place.retries)
        while True:
            try:
                self._process().attempt(job)
            except BrokerUnavailable as error:
                job.fail(error.detach())
            if (pause := job.after()) is None:
                return job.result()
            time.sleep(pause.seconds)

    def _process(self) -> "_Process":
        pid = os.getpid()
        if (process := self._processes.get(pid)) is not None:
            return process
        for other in [each for each in self._processes if each != pid]:
            if (of_parent := self._processes.pop(other, None)) is not None:
                of_parent.pool.let_go()
        # Of two threads that come here together, both get that of the first.
        return self._processes.setdefault(pid, _Process(self._place, self._connections))


class _Process:
    """What one process has: connections, and what it has read last."""

    def __init__(self, place: Place, connections: int) -> None:
        self._place = place
        self.pool = Pool(place.target, place.settings, place.home, connections)
        self._key = place.home.settings()
        # With the shards that follow from it; replaced together.
        self._known: tuple[Known, Topology[Pool]] | None = None
        self._read_at = 0.0

    def attempt(self, job: Job[Any]) -> None:
        """One try. Raises BrokerUnavailable for what was not sent, Refused."""
        known, topology = self._read(job.tries.left)
        for part in job.parts(known):
            for pool, items in by_shard(part, topology.shard_of).items():
                with pool.one(job.tries.left) as connection:
                    connection.look(durable=known.durable)
                    self._send(job, known, connection, items)

    def _send(self, job: Job[Any], known: Known, connection: Connection, items: list[Item]) -> None:
        packed = [publish_command(known.keys, each.publication, each.options, connection) for each in items]
        replies = connection.ask(packed)
        for item, reply in zip(items, replies, strict=True):
            job.settle(item, outcome_of(reply))
        if any(map(is_lost, replies)):
            connection.close()

    def _read(self, seconds: float) -> tuple[Known, Topology[Pool]]:
        """What nodes have written; what is known already if Redis does not tell. Raises BrokerUnavailable."""
        found = self._known
        if found is not None and time.monotonic() - self._read_at < STALE_AFTER:
            return found
        try:
            with self.pool.one(seconds) as connection:
                connection.open()
                fresh = self._fresh(connection, found[0] if found is not None else None)
        except BrokerUnavailable as error:
            if found is None or isinstance(error, UnknownSettings):
                raise
            return found
        self._read_at = time.monotonic()
        if fresh is not None:
            self._known = found = fresh, Topology(fresh.keys, [self.pool] * fresh.keys.partitions)
        assert found is not None
        return found

    def _fresh(self, connection: Connection, known: Known | None) -> Known | None:
        """None if nothing has changed."""
        if known is not None:
            (digest,) = connection.call(pack("HGET", self._key, DIGEST))
            # Without any, Redis has lost them; nodes write them again.
            if digest in (None, known.digest):
                return None
        (fields,) = connection.call(pack("HMGET", self._key, DIGEST, DOCUMENT))
        return known_of(fields, self._place)
