"""The outbox of an application with SQLAlchemy 2."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    func,
    text,
)
from sqlalchemy.orm import Session, registry

from gateway.outbox.rows import TABLE, trigger, values

if TYPE_CHECKING:
    # It needs a library that applications without asyncio do not have.
    from sqlalchemy.ext.asyncio import AsyncSession


class Outbox:
    """Publishes with the transactions of an application. Make one for its MetaData, beside the models.

    `table` is then part of the MetaData, for `create_all` and for Alembic. `create_all` also makes the trigger that
    wakes the relay; a migration of Alembic has to execute `gateway.outbox.rows.TRIGGER`.
    """

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            TABLE,
            metadata,
            # SQLite, on which applications may run their tests, counts up no others.
            Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
            Column("channel", String(255), nullable=False),
            Column("publication", Text, nullable=False),
            Column("created_at", DateTime(timezone=True), server_default=func.now(), nullable=False),
            Column("error", Text),
            Index(f"{TABLE}_waiting", "id", postgresql_where=text("error IS NULL")),
        )
        # In the schema of the table, which the MetaData may name.
        waking = DDL(trigger("%(fullname)s"))  # type: ignore[no-untyped-call]
        event.listen(self.table, "after_create", waking.execute_if(dialect="postgresql"))
        self._row: type[Any] = type("OutboxRow", (), {})
        registry(metadata=metadata).map_imperatively(self._row, self.table, eager_defaults=False)

    def publish(self, session: "Session | AsyncSession", channel: str, data: Any, **options: Any) -> None:
        """Publish `data` (a JSON value, or bytes) to a channel if the transaction of the session commits.

        `options` are `event`, `tags`, `exclude_client`, `skip_history`, `version` and `version_epoch` of
        `gateway.outbox.rows.values`. The row is written with the next flush, so there is nothing to await. Raises
        TypeError or ValueError.
        """
        row = self._row()
        for name, value in values(channel, data, **options).items():
            setattr(row, name, value)
        session.add(row)
