"""The generation of a server: as long as it stays the same, nothing that was written has been lost.

It is made of the server's run id, which is another one after every restart, and of what `INFO replication` says of its
last promotion (`master_replid2`, `second_repl_offset`), which is another one after each. An epoch begins with the
generation in which it began. Otherwise a replica that took over without the newest writes, or a server that came back
from an old snapshot, would give their offsets out again, and nobody would notice. (`master_replid` alone would not do:
it also changes when the first replica is attached, which loses nothing.)
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha1
from typing import Any

import hiredis

from gateway.broker.redis.link import Link, pack
from gateway.broker.redis.upkeep import KeptLink
from gateway.errors import BrokerUnavailable

# Stands for every generation of a server that loses nothing. Others are hexadecimal.
DURABLE = "_"
# Characters of a run id and of a lineage: enough that no two of one installation are equal.
PART = 8

REPLICATION = pack("INFO", "replication")


async def learn(link: Link, *, durable: bool) -> str:
    """The generation of the server behind the link. Raises BrokerUnavailable or OutcomeUnknown."""
    if durable:
        return DURABLE
    try:
        server = _fields(await link.ask("INFO", "server"))
        replication = await link.ask_packed(REPLICATION)
    except hiredis.ReplyError as error:
        raise BrokerUnavailable(f"INFO is needed (or redis.durable), and was refused: {error}") from None
    if "run_id" not in server:
        raise BrokerUnavailable("INFO server says no run_id; redis.durable would do without")
    return server["run_id"][:PART] + lineage(replication)


def lineage(reply: Any) -> str:
    """What tells one promotion from another, in an answer to `INFO replication`. Raises BrokerUnavailable."""
    info = _fields(reply)
    if info.get("role") != "master":
        raise BrokerUnavailable(f"this server is a {info.get('role', 'server without a role')}, not a primary")
    promotion = f"{info.get('master_replid2')}:{info.get('second_repl_offset')}"
    return sha1(promotion.encode(), usedforsecurity=False).hexdigest()[:PART]


def new_epoch(generation: str) -> str:
    """The epoch of a stream that would begin now."""
    return generation + secrets.token_hex(PART // 2)


class GenerationWatch:
    """Notices that a server is not what it was: one that stops being the primary keeps its connections."""

    def __init__(self, links: Sequence[KeptLink], changed: Callable[[str], None]) -> None:
        """Asks over the first of the links. `changed` gets the reason."""
        self._links = links
        self._changed = changed

    def look(self) -> None:
        """Ask; called every second or so."""
        link = self._links[0].current
        if link is not None:
            link.send(REPLICATION, self._informed)

    def _informed(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            return
        try:
            now = lineage(reply)
        except BrokerUnavailable as error:
            self._changed(error.detail)
            return
        if any(kept.current is not None and kept.current.generation[PART:] != now for kept in self._links):
            self._changed("the server was not the primary for a while")


def _fields(reply: Any) -> Mapping[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, _, value in pairs}
