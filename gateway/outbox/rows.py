"""What a row of the outbox holds. It is checked here, so that a wrong one fails in the code that writes it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from gateway.api.request_shapes import PublicationRequest, PublishRequest
from gateway.channels import NAME
from gateway.client import commands
from gateway.client.repeats import with_keys

TABLE = "gateway_outbox"


def trigger(table: str) -> str:
    """The SQL that makes the trigger of a table, which may have a schema: one statement, as asyncpg demands."""
    # PostgreSQL sends notifications when the transaction commits, and equal ones once.
    return f"""
DO $do$ BEGIN
CREATE OR REPLACE FUNCTION {table}_notify() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('{TABLE}', ''); RETURN NULL; END $$;
CREATE TRIGGER {TABLE}_notify AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_notify();
END $do$
"""


# Wakes the relay when a transaction with new rows commits.
TRIGGER = trigger(TABLE)
# With the trigger.
DROP_TRIGGER = f"DROP FUNCTION {TABLE}_notify() CASCADE"


class Row(NamedTuple):
    """A row as the relay reads it. `publication` is the JSON of a publish request without its channel."""

    id: int
    channel: str
    publication: str
    created_at: datetime


def values(
    channel: str,
    data: Any,
    *,
    event: str = "",
    tags: Mapping[str, str] | None = None,
    exclude_client: str = "",
    skip_history: bool = False,
    version: int = 0,
    version_epoch: str = "",
) -> dict[str, str]:
    """The columns of a row, by name: `data` (a JSON value, or bytes) for a channel, and an idempotency key.

    Raises TypeError or ValueError for what no gateway would publish. Size, namespace and kind of the channel depend on
    the settings of the nodes, and are not known here.
    """
    if not NAME.fullmatch(channel):
        raise ValueError(f"{channel!r} is no channel name: 1 to 255 characters of printable ASCII, no white space")
    command = commands.publish(
        channel,
        data,
        event=event,
        tags=tags,
        exclude_client=exclude_client,
        skip_history=skip_history,
        version=version,
        version_epoch=version_epoch,
    )
    fields = msgspec.structs.asdict(with_keys(command.request))
    del fields["channel"]
    text = msgspec.json.encode(PublicationRequest(**fields)).decode()
    _read(text)
    return {"channel": channel, "publication": text}


def request_of(row: Row) -> PublishRequest:
    """The request that publishes a row. Raises ValueError for a row that was not made by `values`.

    A row that was written without a key gets one of its own, always the same.
    """
    publication = _read(row.publication)
    if not row.channel:
        raise ValueError("the channel is empty")
    request = PublishRequest(channel=row.channel, **msgspec.structs.asdict(publication))
    key = request.idempotency_key or f"{TABLE}-{row.id}-{row.created_at.timestamp()}"
    return msgspec.structs.replace(request, idempotency_key=key)


def _read(text: str) -> PublicationRequest:
    """Raises ValueError."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


_decode = msgspec.json.Decoder(PublicationRequest).decode
