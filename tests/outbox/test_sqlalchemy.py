"""Rows that are written with a session of SQLAlchemy."""

import pytest
from sqlalchemy import Engine, MetaData, create_engine, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from gateway.outbox.rows import values
from gateway.outbox.sqlalchemy import Outbox


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(MetaData())


@pytest.fixture
def engine(outbox: Outbox) -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    outbox.table.metadata.create_all(engine)
    return engine


def channels(engine: Engine, outbox: Outbox) -> list[str]:
    """Of all rows, by id."""
    with engine.connect() as connection:
        return list(connection.execute(select(outbox.table.c.channel).order_by(outbox.table.c.id)).scalars())


def test_rows_are_part_of_the_transaction(engine: Engine, outbox: Outbox) -> None:
    """In the order of the calls, within savepoints too."""
    with Session(engine) as session, session.begin():
        for number in range(50):
            outbox.publish(session, f"a{number}", 1)
        savepoint = session.begin_nested()
        outbox.publish(session, "undone", 1)
        session.flush()
        savepoint.rollback()
        outbox.publish(session, "last", {"text": "hi"}, tags={"a": "b"})
    assert channels(engine, outbox) == [*(f"a{number}" for number in range(50)), "last"]


def test_nothing_is_left_of_a_transaction_that_fails(engine: Engine, outbox: Outbox) -> None:
    with Session(engine) as session:
        outbox.publish(session, "a", 1)
        session.flush()
        session.rollback()
    assert channels(engine, outbox) == []


def test_a_wrong_row_is_refused_at_once(engine: Engine, outbox: Outbox) -> None:
    with Session(engine) as session:
        with pytest.raises(ValueError, match="no channel name"):
            outbox.publish(session, "a b", 1)
        assert not session.new


def test_rows_can_be_written_without_a_session(engine: Engine, outbox: Outbox) -> None:
    with engine.begin() as connection:
        connection.execute(outbox.table.insert(), values("a", 1))
    assert channels(engine, outbox) == ["a"]


def test_applications_may_have_several(outbox: Outbox) -> None:
    """One for each MetaData."""
    other = Outbox(MetaData())
    assert other.table.name == outbox.table.name == "gateway_outbox"
