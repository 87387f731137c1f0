"""The code in docs/outbox.md works as it stands; that of Django is what examples/django_news does."""

import re
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from gateway.outbox.rows import Row, request_of
from tests.outbox.tables import NOW

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "outbox.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.M | re.S)


def block(language: str) -> str:
    """The first one in this language."""
    return next(code for name, code in BLOCKS if name == language)


def test_sqlalchemy_and_plain_sql() -> None:
    """Both write rows that the relay understands."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(block("python"), names)
    engine = create_engine("sqlite://", poolclass=StaticPool)
    names["Base"].metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        order = names["Order"](id=7, state="new")
        session.add(order)
        names["ship"](session, order)
    with engine.begin() as connection:
        connection.execute(text(block("sql").replace(":", r"\:")))
        found = connection.execute(text("SELECT channel, publication FROM gateway_outbox ORDER BY id")).all()
    requests = [request_of(Row(1, channel, publication, NOW)) for channel, publication in found]
    assert [(each.channel, bytes(each.data)) for each in requests] == [  # type: ignore[arg-type]
        ("orders:7", b'{"state":"shipped"}'),
        ("news", b'{"text": "hello"}'),
    ]
    engine.dispose()
