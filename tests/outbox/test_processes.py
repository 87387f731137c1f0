"""Relays as processes, between a real PostgreSQL and a real node: killed, cut off, restarted."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from websockets.sync.client import ClientConnection

from gateway.outbox.sqlalchemy import Outbox
from tests.api.clients import PATIENCE, settled
from tests.api.site import KEY, OPEN, Site, running, settings_of
from tests.cli.commands import Command, command
from tests.client.way import BREAK, HOLD, LOSE, PASS, Way, answer, way_to
from tests.servers import PostgresServer, postgres_server

pytestmark = [pytest.mark.slow, pytest.mark.traced]

OUTBOX = Outbox(MetaData())
NAMESPACES = {"chat": OPEN, "kept": {**OPEN, "delivery": "recoverable"}}
BUSY = answer(503, "")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running_server:
        yield running_server


@pytest.fixture(scope="module")
def engine(server: PostgresServer) -> Iterator[Engine]:
    """Of the application."""
    engine = create_engine(server.url.replace(":", "+psycopg:", 1), pool_pre_ping=True)
    OUTBOX.table.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running(settings_of(namespaces=NAMESPACES)) as node:
        yield node


@pytest.fixture
def way(site: Site) -> Iterator[Way]:
    """From the relays to the node."""
    with way_to(site.public) as found:
        yield found


@contextmanager
def relay(server: PostgresServer, way: Way, cwd: Path, *options: str) -> Iterator[Command]:
    env = {"DATABASE_URL": server.url, "GATEWAY_URL": way.url, "GATEWAY_API_KEY": KEY}
    with command("outbox", *options, cwd=cwd, env=env) as process:
        yield process


def publish(engine: Engine, *publications: tuple[str, Any]) -> None:
    """In one transaction."""
    with Session(engine) as session, session.begin():
        for channel, data in publications:
            OUTBOX.publish(session, channel, data)


def received(client: ClientConnection, count: int) -> list[Any]:
    return [json.loads(client.recv(PATIENCE)) for _ in range(count)]


def test_the_active_relay_is_killed(
    server: PostgresServer, engine: Engine, site: Site, way: Way, tmp_path: Path
) -> None:
    """In the middle of 2,000 rows: some are published and not removed yet, and it waits for an answer."""
    rooms = [f"kept:{name}" for name in "abcd"]
    publish(engine, *[(rooms[number % 4], number) for number in range(2000)])
    way.plan += [PASS] * 100 + [HOLD]
    with ExitStack() as stack:
        clients = [stack.enter_context(settled(site, room)) for room in rooms]
        active = stack.enter_context(relay(server, way, tmp_path))
        active.expect("this relay is active")
        other = stack.enter_context(relay(server, way, tmp_path))
        first = received(clients[0], 100)
        active.end(signal.SIGKILL)
        other.expect("this relay is active")
        publish(engine, *[(room, "end") for room in rooms])
        assert [*first, *received(clients[0], 401)] == [*range(0, 2000, 4), "end"]
        for number in (1, 2, 3):
            assert received(clients[number], 501) == [*range(number, 2000, 4), "end"]
        assert other.end() == 0
    assert left(engine) == 0


def left(engine: Engine) -> int:
    """Rows in the table, which is emptied."""
    with engine.begin() as connection:
        return connection.execute(OUTBOX.table.delete()).rowcount


def test_a_transaction_is_published_when_it_commits(
    server: PostgresServer, engine: Engine, site: Site, way: Way, tmp_path: Path
) -> None:
    """And not when it is rolled back. With a session for asyncio, too; the trigger wakes the relay."""

    async def commit() -> None:
        sessions = create_async_engine(engine.url)
        async with AsyncSession(sessions) as session, session.begin():
            OUTBOX.publish(session, "chat:a", "asyncio")
        await sessions.dispose()

    with settled(site, "chat:a") as client, relay(server, way, tmp_path, "--poll", "30") as process:
        process.expect("this relay is active")
        with Session(engine) as session:
            OUTBOX.publish(session, "chat:a", "undone")
            session.flush()
            session.rollback()
        publish(engine, ("chat:a", "done"))
        assert received(client, 1) == ["done"]
        asyncio.run(commit())
        assert received(client, 1) == ["asyncio"]
        process.end(signal.SIGKILL)
    left(engine)


def test_the_node_and_the_database_are_away_for_a_while(
    server: PostgresServer, engine: Engine, site: Site, way: Way, tmp_path: Path
) -> None:
    """Answers that get lost, too, for a channel without history."""
    with settled(site, "chat:a") as client, relay(server, way, tmp_path) as process:
        process.expect("this relay is active")
        way.plan += [BREAK, LOSE, BUSY, LOSE, BREAK, BREAK, BUSY]
        publish(engine, ("chat:a", 1), ("chat:a", 2))
        publish(engine, ("chat:a", 3))
        assert received(client, 3) == [1, 2, 3]
        process.expect("cannot publish")
        server.end()
        process.expect("the database failed")
        server.start()
        process.expect("this relay is active", count=2)
        publish(engine, ("chat:a", 4))
        assert received(client, 1) == [4]
        assert process.end() == 0
    assert left(engine) == 0


def test_a_refused_row_is_kept_and_shown(
    server: PostgresServer, engine: Engine, site: Site, way: Way, tmp_path: Path
) -> None:
    """And published when it is tried again and nothing is wrong with it any more."""
    with settled(site, "chat:a") as client, relay(server, way, tmp_path) as process:
        publish(engine, ("chat:a", 1), ("later:a", 2), ("chat:a", 3))
        assert received(client, 2) == [1, 3]
        process.expect("a row was refused")
        with relay(server, way, tmp_path, "--failed") as question:
            assert question.process.stdout is not None
            assert "later:a" in (line := question.process.stdout.readline())
            assert "namespaces.later" in line
            question.expect("1 refused; 0 waiting")
        with engine.begin() as connection:
            connection.execute(OUTBOX.table.update().values(channel="chat:a"))
        with relay(server, way, tmp_path, "--retry") as question:
            question.expect("1 rows")
        assert received(client, 1) == [2]
        assert process.end(signal.SIGINT) == 0
    assert left(engine) == 0
