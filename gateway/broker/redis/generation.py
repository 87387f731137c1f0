"""The generation of a server: as long as it stays the same, nothing that was written has been lost.

It is the start of the server's replication id (`INFO replication`), which is another one after every restart and every
promotion. An epoch begins with the generation in which it began. Otherwise a replica that took over without the newest
writes, or a server that came back from an old snapshot, would give their offsets out again, and nobody would notice.
"""

import secrets
from collections.abc import Mapping

import hiredis

from gateway.broker.redis.link import Link
from gateway.errors import BrokerUnavailable

# Stands for every generation of a server that loses nothing. Replication ids are hexadecimal.
DURABLE = "_"
LENGTH = 8


async def learn(link: Link, *, durable: bool) -> str:
    """The generation of the server behind the link. Raises BrokerUnavailable or OutcomeUnknown."""
    if durable:
        return DURABLE
    try:
        return parse(await link.ask("INFO", "replication"))
    except hiredis.ReplyError as error:
        raise BrokerUnavailable(f"INFO replication is needed (or redis.durable), and was refused: {error}") from None


def parse(reply: bytes | str) -> str:
    """The generation in an answer to `INFO replication`. Raises BrokerUnavailable for a replica's."""
    info = _fields(reply.decode() if isinstance(reply, bytes) else reply)
    if info.get("role") != "master":
        raise BrokerUnavailable(f"this server is a {info.get('role', 'server without a role')}, not a primary")
    if "master_replid" not in info:
        raise BrokerUnavailable("INFO replication says no master_replid; redis.durable would do without")
    return info["master_replid"][:LENGTH]


def new_epoch(generation: str) -> str:
    """The epoch of a stream that would begin now."""
    return generation + secrets.token_hex(LENGTH // 2)


def _fields(text: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
