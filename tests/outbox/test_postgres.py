"""The table of the outbox in a real PostgreSQL."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, MetaData, create_engine, text

from gateway.errors import ConfigError
from gateway.outbox import postgres
from gateway.outbox.postgres import PostgresStore, opened, parameters
from gateway.outbox.relay import StoreLost
from gateway.outbox.rows import DROP_TRIGGER, TRIGGER, values
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
def test_two_relays_do_not_lead_by_one_session(server: PostgresServer, engine: Engine) -> None:
    """As behind a pooler in transaction mode. PostgreSQL gives a session its own lock as often as it asks."""

    async def test(one: PostgresStore, other: PostgresStore) -> None:
        assert await one.lead()
        with pytest.raises(StoreLost, match="pooler"):
            await PostgresStore(one._connection).lead()
        assert not await other.lead()

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
        assert [row.channel for row in await one.read((), 10, 10_000)] == ["a", "b"]

    run(server, test)


@pytest.mark.slow
def test_rows_are_read_removed_and_kept(server: PostgresServer, engine: Engine, outbox: Outbox) -> None:
    """In the order of their ids, without the refused ones; those can be seen, and tried again."""

    async def test(one: PostgresStore, other: PostgresStore) -> None:
        write(engine, outbox, "a", "b", "a", "c")
        rows = await one.read(["b"], 2, 1000)
        assert [row.channel for row in rows] == ["a", "a"]
        await one.remove({row.id for row in rows})
        (b, c) = await one.read((), 10, 10_000)
        assert await one.read((), 10, 1) == [b]
        assert await one.read((), 10, len(b.publication) + 1) == [b, c]
        await one.refuse(b.id, "why\0not \u4e2d \ud800")
        assert await one.read((), 10, 10_000) == [c]
        assert await one.failed() == [(b, r"whynot \u4e2d \ud800")]
        count, age = await one.waiting()
        assert (count, age >= 0) == (1, True)
        assert await one.retry() == 1
        assert await one.read((), 10, 10_000) == [b, c]

    run(server, test)


@pytest.mark.slow
def test_a_row_that_commits_late_is_seen(server: PostgresServer, engine: Engine, outbox: Outbox) -> None:
    """Although rows with higher ids have been read and removed before."""

    async def test(one: PostgresStore, other: PostgresStore) -> None:
        with engine.begin() as late:
            late.execute(outbox.table.insert(), values("late", 1))
            write(engine, outbox, "early")
            (early,) = await one.read((), 10, 10_000)
            await one.remove({early.id})
        (found,) = await one.read((), 10, 10_000)
        assert found.channel == "late"
        assert found.id < early.id

    run(server, test)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["UPDATE", "DELETE", "writable"])
def test_who_cannot_remove_rows_does_not_begin(server: PostgresServer, engine: Engine, missing: str) -> None:
    """It would publish them all, and again after each restart."""
    rights = {"SELECT", "UPDATE", "DELETE"} - {missing}
    url = server.url.replace("postgres@", "relay@")
    if missing == "writable":
        url += "?options=-cdefault_transaction_read_only%3Don"
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE relay LOGIN"))
        connection.execute(text(f"GRANT {', '.join(rights)} ON gateway_outbox TO relay"))

    async def main() -> None:
        async with opened(parameters(url)) as store:
            with pytest.raises(StoreLost, match=r"permission denied|read-only"):
                await store.lead()

    try:
        asyncio.run(main())
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY relay"))
            connection.execute(text("DROP ROLE relay"))


@pytest.mark.slow
def test_databases_of_other_encodings(server: PostgresServer) -> None:
    """Whatever is in them, the relay does not die of it."""

    async def main(url: str, hostile: str) -> list[str]:
        async with opened(parameters(url)) as store:
            await store._connection.execute("INSERT INTO gateway_outbox (channel, publication) VALUES ('a', '{}')")
            assert await store.lead()
            (row,) = await store.read((), 10, 1000)
            assert row.channel == "a"
            await store.refuse(row.id, "\u4e2d")
            await store._connection.execute(f"UPDATE gateway_outbox SET error = NULL, publication = {hostile}")
            try:
                return [each.publication for each in await store.read((), 10, 1000)]
            except StoreLost as error:
                return [str(error)]

    found = {}
    for encoding, hostile in (("LATIN1", "'ä'"), ("SQL_ASCII", "E'\\xff'")):
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {encoding} ENCODING '{encoding}' TEMPLATE template0")
        url = server.url.removesuffix("postgres") + encoding.lower()
        metadata = Outbox(MetaData()).table.metadata
        other = create_engine(url.replace(":", "+psycopg:", 1), connect_args={"client_encoding": "utf8"})
        metadata.create_all(other)
        other.dispose()
        (found[encoding],) = asyncio.run(main(url, hostile))
    assert found["LATIN1"] == "ä"
    assert "invalid byte sequence" in found["SQL_ASCII"]


@pytest.mark.slow
def test_the_table_may_be_in_another_schema(server: PostgresServer) -> None:
    """That of the MetaData. Its trigger is there too, and made by one statement: asyncpg takes no more."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "App"')
    engine = create_engine(server.url.replace(":", "+psycopg:", 1))
    outbox = Outbox(MetaData(schema="App"))
    outbox.table.metadata.create_all(engine)

    async def main() -> None:
        async with opened(parameters(f"{server.url}?options=-csearch_path%3D%22App%22")) as store:
            assert await store.lead()
            await asyncio.to_thread(write, engine, outbox, "a")
            await store.wait(3600)
            assert len(await store.read((), 10, 1000)) == 1

    try:
        asyncio.run(main())
    finally:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute('DROP SCHEMA "App" CASCADE')
        engine.dispose()


@pytest.mark.slow
def test_the_trigger_is_one_statement_each_way(server: PostgresServer, engine: Engine) -> None:
    """Drivers that prepare statements, such as asyncpg, take no more."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in (DROP_TRIGGER, TRIGGER):
            connection.execute(statement, prepare=True)


@pytest.mark.slow
def test_a_missing_table_is_named(server: PostgresServer) -> None:
    async def test(one: PostgresStore, other: PostgresStore) -> None:
        with pytest.raises(StoreLost, match="no table gateway_outbox"):
            await one.read((), 10, 10_000)

    run(server, test)


def test_urls_of_libpq_and_sqlalchemy() -> None:
    """What they say wins over what the relay would choose."""
    given = parameters("postgresql+asyncpg://app@db:5433/shop?connect_timeout=3")
    assert (given["host"], given["port"]) == ("db", "5433")
    assert (given["dbname"], given["user"], given["connect_timeout"]) == ("shop", "app", "3")
    for url in ("mysql://app:secret@db/shop", "postgresql://app:se@cret@db/shop", "postgresql://app:12/cret@db/shop"):
        with pytest.raises(ConfigError) as caught:
            parameters(url)
        assert "cret" not in str(caught.value)
