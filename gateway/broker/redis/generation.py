"""The generation of a server: as long as it stays the same, nothing that was written has been lost.

An epoch begins with the generation of its server (epochs.py). Otherwise a replica that took over without the newest
writes, or a server that came back from an old snapshot, would give their offsets out again, and nobody would notice.

A generation ends when the server is another process (its run id), or was promoted again in between: then `INFO
replication` tells another `master_replid2`. Neither id of the replication would do alone: `master_replid` also changes
when the first replica is attached, and `master_replid2` is forgotten after an hour without replicas. So the server
itself keeps the name of its generation (generation.lua), and all nodes agree on it.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hiredis

from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.link import Link, pack
from gateway.broker.redis.lua import GENERATION
from gateway.errors import BrokerUnavailable

# Stands for every generation of a server that loses nothing. Others are hexadecimal.
DURABLE = "_"
# Stands for every promotion of such a server.
UNWATCHED = "-"
# Characters of a name: enough that no two of one installation are equal.
LENGTH = 12

REPLICATION = pack("INFO", "replication")


async def learn(link: Link, key: bytes, *, durable: bool) -> None:
    """Let the link know the generation of its server. Raises BrokerUnavailable or OutcomeUnknown."""
    if durable:
        link.generation, link.promotion = DURABLE, UNWATCHED
        return
    try:
        run = _fields(await link.ask("INFO", "server")).get("run_id")
        latest = promotion(await link.ask_packed(REPLICATION))
        if run is None:
            raise BrokerUnavailable("INFO server says no run_id; redis.durable would do without")
        # Another one each time, so that it also ends when the server loses all that it had (FLUSHALL).
        name = secrets.token_hex(LENGTH // 2)
        answer: bytes = await link.ask("EVAL", GENERATION.text, 1, key, run, latest, name)
    except hiredis.ReplyError as error:
        raise BrokerUnavailable(f"the server's generation (INFO, or redis.durable) is not to be had: {error}") from None
    link.generation, link.promotion = answer.decode(), latest


def promotion(reply: Any) -> str:
    """What tells one promotion from another, in an answer to `INFO replication`; empty when there is none.

    Raises BrokerUnavailable for a server that is not the primary.
    """
    info = _fields(reply)
    if info.get("role") != "master":
        raise BrokerUnavailable(f"this server is a {info.get('role', 'server without a role')}, not a primary")
    before = info.get("master_replid2", "")
    return before if before.strip("0") else ""


class GenerationWatch:
    """Notices that a server is not what it was: one that stops being the primary keeps its connections."""

    def __init__(self, links: Sequence[KeptLink], key: bytes, changed: Callable[[str], None]) -> None:
        """Asks over the first of the links, all of which know their generation. `changed` gets the reason."""
        self._links = links
        self._name = pack("HGET", key, "name")
        self._changed = changed

    def look(self) -> None:
        """Ask; called every second or so."""
        link = self._links[0].current
        if link is not None:
            link.send(REPLICATION, self._informed)
            link.send(self._name, self._named)

    def _informed(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            return
        try:
            latest = promotion(reply)
        except BrokerUnavailable as error:
            self._changed(error.detail)
            return
        link = self._links[0].current
        if latest and link is not None and latest != link.promotion:
            self._changed("the server was not the primary for a while")

    def _named(self, reply: Any) -> None:
        """Another node has found another generation, or the server lost all that it had."""
        if isinstance(reply, Exception):
            return
        name = reply.decode(errors="replace") if reply is not None else ""
        if any(kept.current is not None and kept.current.generation != name for kept in self._links):
            self._changed("the server's generation has ended")


def _fields(reply: Any) -> Mapping[str, str]:
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, _, value in pairs}
