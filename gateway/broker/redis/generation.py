"""The generation of a server: as long as it stays the same, no write has been lost.

An epoch begins with the generation of its server (epochs.py). Otherwise a replica that took over without the newest
writes, or a server restored from an old snapshot, would assign offsets a second time, and nobody would notice.

A generation ends when the server is another process (another run id), or was promoted in between (`INFO replication`
then has another `master_replid2`). The ids of the replication alone are not enough: `master_replid` also changes when
the first replica is attached, and `master_replid2` is forgotten after an hour without replicas. So the name of the
generation is stored in the server itself (generation.lua), and all nodes agree on it.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hiredis

from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.link import Link, pack
from gateway.broker.redis.lua import GENERATION
from gateway.errors import BrokerUnavailable

# The generation of a server that loses nothing. Others are hexadecimal.
DURABLE = "_"
# The promotion of such a server.
UNWATCHED = "-"
# Characters of a name: enough to be unique in an installation.
LENGTH = 12

SERVER = pack("INFO", "server")
REPLICATION = pack("INFO", "replication")


async def learn(link: Link, key: bytes, *, durable: bool) -> None:
    """Read the generation of the server into the link. Raises BrokerUnavailable or OutcomeUnknown."""
    if durable:
        link.generation, link.promotion = DURABLE, UNWATCHED
        return
    try:
        run = run_id(await link.ask_packed(SERVER))
        latest = promotion(await link.ask_packed(REPLICATION))
        answer: bytes = await link.ask_packed(naming(key, run, latest))
    except hiredis.ReplyError as error:
        raise unknown(error) from None
    link.generation, link.promotion = answer.decode(), latest


def run_id(reply: Any) -> str:
    """The run id in an answer to `INFO server`. Raises BrokerUnavailable."""
    run = _fields(reply).get("run_id")
    if run is None:
        raise BrokerUnavailable("INFO server has no run_id; redis.durable would not need it")
    return run


def naming(key: bytes, run: str, latest: str) -> bytes:
    """The command that asks for the name of the generation, from the run id and the latest promotion."""
    # A new name each time, so that the generation also ends when the server loses all its data (FLUSHALL).
    return pack("EVAL", GENERATION.text, 1, key, run, latest, secrets.token_hex(LENGTH // 2))


def unknown(error: Exception) -> BrokerUnavailable:
    """For a server that refuses to tell."""
    return BrokerUnavailable(f"the generation of the server (INFO) is unknown, see redis.durable: {error}")


def name_command(key: bytes) -> bytes:
    """The command that reads the name of the generation; see `has_ended`."""
    return pack("HGET", key, "name")


def has_ended(reply: Any, generation: str) -> bool:
    """Whether an answer to `name_command` has another name.

    Then another node has started a new generation, or the server has lost all its data.
    """
    return (reply.decode(errors="replace") if reply is not None else "") != generation


def was_demoted(latest: str, known: str) -> bool:
    """Whether the latest promotion of a server is another one than that known. (Servers forget it.)"""
    return bool(latest) and latest != known


def promotion(reply: Any) -> str:
    """The id of the latest promotion in an answer to `INFO replication`; empty if there was none.

    Raises BrokerUnavailable for a server that is not the primary.
    """
    info = _fields(reply)
    if info.get("role") != "master":
        raise BrokerUnavailable(f"this server is a {info.get('role', 'server without a role')}, not a primary")
    before = info.get("master_replid2", "")
    return before if before.strip("0") else ""


class GenerationWatch:
    """Detects that a server is no longer the primary, which it does not tell on its open connections."""

    def __init__(self, links: Sequence[KeptLink], key: bytes, changed: Callable[[str], None]) -> None:
        """Asks over the first of the links, all of which know their generation. `changed` gets the reason."""
        self._links = links
        self._name = name_command(key)
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
        if link is not None and was_demoted(latest, link.promotion):
            self._changed("the server was not the primary for a while")

    def _named(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            return
        if any(kept.current is not None and has_ended(reply, kept.current.generation) for kept in self._links):
            self._changed("the server's generation has ended")


def _fields(reply: Any) -> Mapping[str, str]:
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, _, value in pairs}
