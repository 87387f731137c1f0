"""The outbox in PostgreSQL, for the relay."""

import re
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from gateway.errors import ConfigError
from gateway.outbox.relay import StoreLost
from gateway.outbox.rows import Row

# A connection that broke without a word is noticed by either side within half a minute. A relay that hangs, and asks
# for nothing for a minute, is cut off. The server then frees the lock.
CLIENT_SIDE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "gateway outbox",
    # Otherwise that of the database, in which the driver reads bytes from SQL_ASCII, and cannot write every text.
    "client_encoding": "utf8",
}
SERVER_SIDE: LiteralString = (
    "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), "
    "set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '25000', false), "
    "set_config('idle_session_timeout', '60000', false)"
)
# The lock of whoever publishes from this table; the first number is "gwob".
LEAD: LiteralString = "SELECT pg_try_advisory_lock(x'67776f62'::int, 'gateway_outbox'::regclass::oid::int)"
# Whether this session has it already, which then is that of another relay as well.
IS_SHARED: LiteralString = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "
    "AND classid = x'67776f62'::int::oid AND objid = 'gateway_outbox'::regclass AND objsubid = 2)"
)
# Whether it may do what it will have to: without the right to remove what it has published, or where nothing can be
# written, it must not begin.
MAY_REMOVE: LiteralString = "DELETE FROM gateway_outbox WHERE false"
MAY_REFUSE: LiteralString = "UPDATE gateway_outbox SET error = error WHERE false"
# (octet_length needs no row in full: large ones are stored apart.)
READ: LiteralString = (
    "SELECT id, channel, publication, created_at FROM ("
    "SELECT *, sum(octet_length(publication)) OVER (ORDER BY id) - octet_length(publication) AS before FROM ("
    "SELECT id, channel, publication, created_at FROM gateway_outbox "
    "WHERE error IS NULL AND channel <> ALL(%s) ORDER BY id LIMIT %s"
    ") AS first) AS sized WHERE before < %s ORDER BY id"
)
REMOVE: LiteralString = "DELETE FROM gateway_outbox WHERE id = ANY(%s)"
REFUSE: LiteralString = "UPDATE gateway_outbox SET error = %s WHERE id = %s"
FAILED: LiteralString = (
    "SELECT id, channel, publication, created_at, error FROM gateway_outbox WHERE error IS NOT NULL ORDER BY id"
)
WAITING: LiteralString = (
    "SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::int FROM gateway_outbox "
    "WHERE error IS NULL"
)
RETRY: LiteralString = "UPDATE gateway_outbox SET error = NULL WHERE error IS NOT NULL"
SHARED = "a pooler gives the session of another relay to this one: connect to PostgreSQL itself, or in session mode"


class FailedRow(NamedTuple):
    """A row that the gateway refused, and why."""

    row: Row
    error: str


class PostgresStore:
    """A Store: a session of PostgreSQL, in which every statement is a transaction."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        self._connection = connection

    async def lead(self) -> bool:
        """See Store."""
        with _faults():
            if await (await self._connection.execute(IS_SHARED)).fetchone() == (True,):
                raise StoreLost(SHARED)
            found = await (await self._connection.execute(LEAD)).fetchone()
            if found is None or not found[0]:
                return False
            await self._connection.execute(MAY_REMOVE)
            await self._connection.execute(MAY_REFUSE)
            await self._connection.execute("LISTEN gateway_outbox")
            return True

    async def read(self, without: Collection[str], limit: int, size: int) -> Sequence[Row]:
        """See Store."""
        with _faults():
            cursor = self._connection.cursor(row_factory=class_row(Row))
            return await (await cursor.execute(READ, (list(without), limit, size))).fetchall()

    async def remove(self, ids: Collection[int]) -> None:
        """See Store."""
        with _faults():
            await self._connection.execute(REMOVE, (list(ids),))

    async def refuse(self, row: int, error: str) -> None:
        """See Store."""
        with _faults():
            # PostgreSQL has no texts with NUL, and databases of other encodings not every character.
            text = error.replace("\0", "").encode("ascii", "backslashreplace").decode()
            await self._connection.execute(REFUSE, (text, row))

    async def wait(self, seconds: float) -> None:
        """See Store."""
        with _faults():
            async for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                pass

    async def failed(self) -> Sequence[FailedRow]:
        """All rows that the gateway refused. Raises StoreLost."""
        with _faults():
            found = await (await self._connection.execute(FAILED)).fetchall()
            return [FailedRow(Row(*fields), error) for *fields, error in found]

    async def waiting(self) -> tuple[int, int]:
        """How many rows wait to be published, and since how many seconds the first of them. Raises StoreLost."""
        with _faults():
            found = await (await self._connection.execute(WAITING)).fetchone()
            assert found is not None
            return found[0], found[1]

    async def retry(self) -> int:
        """Let the relay publish all refused rows; how many there are. Raises StoreLost."""
        with _faults():
            return (await self._connection.execute(RETRY)).rowcount


def parameters(url: str) -> dict[str, Any]:
    """Of the connection, for a URL of libpq or SQLAlchemy (`postgresql+psycopg://`). Raises ConfigError."""
    plain = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", url)
    try:
        found = conninfo_to_dict(plain)
    except psycopg.Error:
        # Without the URL, which may contain a password.
        raise ConfigError("--database or DATABASE_URL: expected postgresql://USER@HOST:PORT/DATABASE") from None
    if "@" in f"{found.get('host')}{found.get('dbname')}":
        # Part of the password, which errors of the connection would show.
        raise ConfigError("--database or DATABASE_URL: write @ and / in the password as %40 and %2F")
    return {**CLIENT_SIDE, **found}


@asynccontextmanager
async def opened(given: dict[str, Any]) -> AsyncIterator[PostgresStore]:
    """A session with these `parameters`. Raises StoreLost."""
    with _faults():
        connection = await psycopg.AsyncConnection.connect(**given, autocommit=True)
    try:
        with _faults():
            await connection.execute(SERVER_SIDE)
        yield PostgresStore(connection)
    finally:
        await connection.close()


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UndefinedTable:
        raise StoreLost("there is no table gateway_outbox: has the application migrated its database?") from None
    except psycopg.Error as error:
        raise StoreLost(str(error).strip() or type(error).__name__) from error
