"""The table of the outbox in a real PostgreSQL."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine

from gateway.errors import ConfigError
from gateway.outbox import postgres
from gateway.outbox.postgres import PostgresStore, opened, parameters
from gateway.outbox.relay import StoreLost
from gateway.outbox.rows import values
from gateway.outbox.sqlalchemy import Outbox
from tests.servers import PostgresServer, postgres_server

Test = Callable[[PostgresStore, PostgresStore], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(MetaData())


@pytest.fixture
def engine(server: PostgresServer, outbox: Outbox) -> Iterator[Engine]:
    """With an empty table."""
    engine = create_engine(server.url.replace(":", "+psycopg:", 1))
    outbox.table.metadata.create_all(engine)
    yield engine
    outbox.table.metadata.drop_all(engine)
    engine.dispose()


def run(server: PostgresServer, test: Test) -> None:
    """With two sessions."""

    async def main() -> None:
        given = parameters(server.url)
        async with asyncio.timeout(60), opened(given) as one, opened(given) as other:
            await test(one, other)

    asyncio.run(main())


def write(engine: Engine, outbox: Outbox, *channels: str) -> None:
    with engine.begin() as connection:
        for channel in channels:
            connection.execute(outbox.table.insert(), values(channel, 1))


@pytest.mark.slow
def test_one_session_leads_until_it_ends(server: PostgresServer, engine: Engine) -> None:
    async def test(one: PostgresStore, other: PostgresStore) -> None:
        assert await one.lead()
        assert not await other.lead()
        async with opened(parameters(server.url)) as third:
            assert not await third.lead()
        await one._connection.close()
        while not await other.lead():
            await asyncio.sleep(0)

    run(server, test)


@pytest.mark.slow
def test_a_relay_that_hangs_leads_no_more(
    server: PostgresServer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends its session after a minute; here, sooner."""

    async def test(one: PostgresStore, other: PostgresStore) -> None:
        monkeypatch.setattr(postgres, "SERVER_SIDE", postgres.SERVER_SIDE.replace("60000", "500"))
        async with opened(parameters(server.url)) as hanging:
            assert await hanging.lead()
            while not await other.lead():
                await asyncio.sleep(0)
            with pytest.raises(StoreLost):
                await hanging.remove(())

    run(server, test)


@pytest.mark.slow
def test_a_commit_wakes_who_waits(server: PostgresServer, engine: Engine, outbox: Outbox) -> None:
    """Also one that was made while nobody waited."""

    async def test(one: PostgresStore, other: PostgresStore) -> None:
        await one.lead()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(one.wait(3600))
            await asyncio.to_thread(write, engine, outbox, "a")
            await waiting
        await asyncio.to_thread(write, engine, outbox, "b")
        await one.wait(3600)
        assert [row.channel for row in await one.read((), 10)] == ["a", "b"]

    run(server, test)


@pytest.mark.slow
def test_rows_are_read_removed_and_kept(server: PostgresServer, engine: Engine, outbox: Outbox) -> None:
    """In the order of their ids, without the refused ones; those can be seen, and tried again."""

    async def test(one: PostgresStore, other: PostgresStore) -> None:
        write(engine, outbox, "a", "b", "a", "c")
        rows = await one.read(["b"], 2)
        assert [row.channel for row in rows] == ["a", "a"]
        await one.remove({row.id for row in rows})
        (b, c) = await one.read((), 10)
        await one.refuse(b.id, "why\0not")
        assert await one.read((), 10) == [c]
        assert await one.failed() == [(b, "whynot")]
        count, age = await one.waiting()
        assert (count, age >= 0) == (1, True)
        assert await one.retry() == 1
        assert await one.read((), 10) == [b, c]

    run(server, test)


@pytest.mark.slow
def test_a_row_that_commits_late_is_seen(server: PostgresServer, engine: Engine, outbox: Outbox) -> None:
    """Although rows with higher ids have been read and removed before."""

    async def test(one: PostgresStore, other: PostgresStore) -> None:
        with engine.begin() as late:
            late.execute(outbox.table.insert(), values("late", 1))
            write(engine, outbox, "early")
            (early,) = await one.read((), 10)
            await one.remove({early.id})
        (found,) = await one.read((), 10)
        assert found.channel == "late"
        assert found.id < early.id

    run(server, test)


@pytest.mark.slow
def test_a_missing_table_is_named(server: PostgresServer) -> None:
    async def test(one: PostgresStore, other: PostgresStore) -> None:
        with pytest.raises(StoreLost, match="no table gateway_outbox"):
            await one.read((), 10)

    run(server, test)


def test_urls_of_libpq_and_sqlalchemy() -> None:
    """What they say wins over what the relay would choose."""
    given = parameters("postgresql+asyncpg://app@db:5433/shop?connect_timeout=3")
    assert (given["host"], given["port"]) == ("db", "5433")
    assert (given["dbname"], given["user"], given["connect_timeout"]) == ("shop", "app", "3")
    with pytest.raises(ConfigError) as caught:
        parameters("mysql://app:secret@db/shop")
    assert "secret" not in str(caught.value)
