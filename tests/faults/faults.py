"""The faults, by name. Each is an act on the site that is over, and undone, when it returns."""

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

from gateway.broker.redis.keyspace import Keys
from gateway.config.settings import RedisSettings
from gateway.messages import DEFAULT_APP, Channel
from tests.broker.redis.forgeries import BAD_CONTROL, BAD_ENTRIES, BAD_MESSAGES
from tests.faults.processes import SERVER_SECONDS, Node, Valkey, until
from tests.faults.proxy import Proxy
from tests.faults.site import CHANNELS, IDLE, WIDE, Site
from tests.faults.verdicts import Top

# Bytes of messages that fill buffers; just within the default of limits.message_size.
LARGE = 60_000
# Large messages that fill the buffers of clients.
FLOOD = 400
# Bytes of messages that fill the output buffers of Valkey, and how many at most. It does not count what it need not
# copy: strings from 16 KiB on (min-string-size-avoid-copy-reply).
MEDIUM = 12_000
TORRENT = 3_000
# Publications by which a replica is behind, and those that overtake them.
BEHIND, OVERTAKING = 20, 30

# Seconds after which a node gives up a link that does not answer: a ping a second, three seconds for the answer.
HOLE_SECONDS = 4.5


class Kind(NamedTuple):
    """A kind of fault, and what must have been seen of it when a run is over."""

    act: Callable[[Site], Awaitable[None]]
    # recovered, refilled, gaps
    shows: frozenset[str]


def _one(site: Site) -> tuple[Node, Proxy]:
    """A node, rather one that has many subscribers: one that has just been started has none."""
    here = Counter(each.port for each in site.subscribers if each.connected)
    number = site.dice.choices(range(len(site.nodes)), [here[node.port] for node in site.nodes])[0]
    return site.nodes[number], site.proxies[number]


def _outage(site: Site) -> float:
    return site.pace.outage * site.dice.uniform(0.5, 1.5)


# Nodes


async def kill_node(site: Site) -> None:
    """kill -9, and start it again after a while."""
    node, _ = _one(site)
    await node.kill()
    await asyncio.sleep(_outage(site))
    node.begin()
    await node.ready()


async def roll_nodes(site: Site) -> None:
    """SIGTERM under load, one after the other, as a deploy does."""
    for node in site.nodes:
        await node.terminate()
        node.begin()
        await node.ready()


async def stop_node(site: Site) -> None:
    """SIGSTOP past its lease, then SIGCONT."""
    node, _ = _one(site)
    node.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(site.pace.node_stop)
    finally:
        node.send(signal.SIGCONT)


# Valkey


async def restart_empty(site: Site) -> None:
    """kill -9 of a Valkey that keeps nothing."""
    await site.valkey.kill()
    shutil.rmtree(site.valkey.folder / "appendonlydir")
    await asyncio.sleep(_outage(site))
    site.checker.restarted()
    await site.valkey.start(*site.log_options)


async def restart_from_log(site: Site) -> None:
    """kill -9 of a Valkey with an append-only file. Only if it is durable, its streams may go on."""
    await site.valkey.kill()
    await asyncio.sleep(_outage(site))
    if not site.durable:
        site.checker.restarted()
    await site.valkey.start(*site.log_options)


async def restart_from_snapshot(site: Site) -> None:
    """kill -9 of a Valkey that comes back as it was some time ago."""
    await site.valkey.ask("SAVE")
    await _publish_to_idle(site, BEHIND)
    await site.valkey.kill()
    shutil.rmtree(site.valkey.folder / "appendonlydir")
    site.checker.restarted()
    await site.valkey.start("--appendonly", "no")
    await site.valkey.ask("CONFIG", "SET", "appendonly", "yes")


async def stop_valkey(site: Site) -> None:
    """SIGSTOP, then SIGCONT. Meanwhile the nodes' loops must go on: how long a health check takes is noted."""
    loop = asyncio.get_running_loop()
    site.valkey.send(signal.SIGSTOP)
    try:
        end = loop.time() + site.pace.valkey_stop
        while loop.time() < end:
            await site.count()
            for node in site.nodes:
                before = loop.time()
                status, _ = await node.get("/health/live")
                took = round((loop.time() - before) * 1_000)
                site.notes["slowest health check, ms"] = max(site.notes["slowest health check, ms"], took)
                if status != 200:
                    site.notes["health checks failed"] += 1
            await asyncio.sleep(0.1)
    finally:
        site.valkey.send(signal.SIGCONT)


async def kill_pubsub(site: Site) -> None:
    """CLIENT KILL TYPE pubsub, while publishing goes on."""
    for _ in range(3):
        await site.valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(_outage(site))


async def overflow(site: Site) -> None:
    """A node does not read, and Valkey cuts it off when its output buffer is full."""
    node, _ = _one(site)
    others = [each.port for each in site.nodes if each is not node]
    await site.valkey.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
    node.send(signal.SIGSTOP)
    try:
        before = await _overflows(site.valkey)
        for number in range(TORRENT):
            await site.writer.publish(others[number % 2], WIDE[number % 2], MEDIUM)
            if number % 50 == 0 and await _overflows(site.valkey) > before:
                site.notes["output buffers overflowed"] += 1
                break
    finally:
        node.send(signal.SIGCONT)
        await site.valkey.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")


async def _overflows(valkey: Valkey) -> int:
    return int((await valkey.info("stats"))["client_output_buffer_limit_disconnections"])


async def attach_replica(site: Site) -> None:
    """A primary gets a replica, and loses it: nothing of this is any concern of the clients."""
    replica = site.make_valkey()
    await replica.start(*site.log_options, "--replicaof", f"127.0.0.1 {site.valkey.port}")
    await _until_synced(replica)
    await asyncio.sleep(_outage(site))
    await replica.kill()


async def promote_replica(site: Site) -> None:
    """The primary dies, and a replica that lacks its newest writes takes over.

    Idle channels lost writes too; on half of them the new primary's tops are beyond the old ones before two of the
    three nodes get to look.
    """
    async with _replica_behind(site) as replica:
        await site.valkey.kill()
    for proxy in site.proxies:
        proxy.refusing = True
        proxy.lead(replica.port)
    site.checker.restarted()
    await replica.ask("REPLICAOF", "NO", "ONE")
    site.valkey = replica
    first = site.dice.randrange(len(site.nodes))
    site.proxies[first].heal()
    await site.nodes[first].ready()
    await _overtake(site, site.nodes[first])
    for proxy in site.proxies:
        proxy.heal()


async def demote_primary(site: Site) -> None:
    """The primary becomes the replica of one that lacks its newest writes, takes them from it, and is primary again.

    It is the same process with the same connections all the time.
    """
    async with _replica_behind(site) as replica:
        await replica.ask("REPLICAOF", "NO", "ONE")
        await site.valkey.ask("REPLICAOF", "127.0.0.1", str(replica.port))
        await _until_synced(site.valkey)
    site.checker.restarted()
    await site.valkey.ask("REPLICAOF", "NO", "ONE")
    await replica.kill()
    await site.ready()
    await _overtake(site, site.nodes[0])


@asynccontextmanager
async def _replica_behind(site: Site) -> AsyncIterator[Valkey]:
    """A new replica that lacks the newest writes; it gets nothing more within the context."""
    between = Proxy(site.valkey.port)
    replica = site.make_valkey()
    await between.start()
    try:
        await replica.start(*site.log_options, "--replicaof", f"127.0.0.1 {between.port}")
        await _until_synced(replica)
        await _publish_to_idle(site, 1)
        between.hold(to_server=True, from_server=True)
        await _publish_to_idle(site, BEHIND)
        await asyncio.sleep(site.pace.outage)
        yield replica
    finally:
        await between.stop()


async def _overtake(site: Site, node: Node) -> None:
    """Half of the idle channels get further than they were before."""
    for channel in IDLE[: len(IDLE) // 2]:
        for _ in range(OVERTAKING):
            await site.writer.publish(node.port, channel)


async def outlive_promotion(site: Site) -> None:
    """A promoted primary without replicas forgets, after repl-backlog-ttl, that it ever was one: nothing is lost."""
    if not await _was_promoted(site.valkey):
        await promote_replica(site)
        await site.settle()
    await site.valkey.ask("CONFIG", "SET", "repl-backlog-ttl", "1")
    async with asyncio.timeout(SERVER_SECONDS):
        while await _was_promoted(site.valkey):
            await asyncio.sleep(0.1)
    await asyncio.sleep(_outage(site))
    await site.valkey.ask("CONFIG", "SET", "repl-backlog-ttl", "3600")


async def _was_promoted(valkey: Valkey) -> bool:
    """Whether it knows that it was a replica once."""
    return (await valkey.info("replication"))["second_repl_offset"] != "-1"


async def _until_synced(replica: Valkey) -> None:
    async with asyncio.timeout(SERVER_SECONDS):
        while (await replica.info("replication")).get("master_link_status") != "up":
            await asyncio.sleep(0.05)


async def _publish_to_idle(site: Site, count: int) -> None:
    port = site.dice.choice(site.nodes).port
    for channel in IDLE:
        for _ in range(count):
            await site.writer.publish(port, channel)


# Somebody else who writes to Valkey

# Puts an entry at the end of a stream as a publish does, and tells where.
_APPEND = """
local offset = redis.call('HINCRBY', KEYS[1], 's', 1)
redis.call('XADD', KEYS[2], string.format('%.0f', offset) .. '-0', 'd', ARGV[1])
return {redis.call('HGET', KEYS[1], 'e'), offset}
"""


async def forge_messages(site: Site) -> None:
    """Messages that no node would write come over the bus, between those of the nodes: nobody is to notice."""
    for channel in site.dice.sample(CHANNELS, len(CHANNELS) // 2):
        for message in BAD_MESSAGES.values():
            await site.valkey.ask("PUBLISH", _KEYS.bus(Channel(DEFAULT_APP, channel)), message)
    for message in BAD_CONTROL.values():
        await site.valkey.ask("PUBLISH", _KEYS.control(), message)


async def forge_entries(site: Site) -> None:
    """Entries that nobody can read stand in streams: whoever passes one is told of a gap."""
    port = site.dice.choice(site.nodes).port
    for entry in BAD_ENTRIES.values():
        name = site.dice.choice(CHANNELS)
        # It must have a stream, and be reminded of it afterwards.
        await site.writer.publish(port, name)
        channel = Channel(DEFAULT_APP, name)
        site.checker.forging(name)
        reply = await site.valkey.ask("EVAL", _APPEND, "2", _KEYS.meta(channel), _KEYS.stream(channel), entry)
        epoch, offset = cast("tuple[bytes, int]", reply)
        site.checker.forged(name, Top(epoch.decode(), offset))
        await site.writer.publish(port, name)


_KEYS = Keys(RedisSettings().prefix, RedisSettings().partitions)


# The network between a node and Valkey


async def cut_links(site: Site) -> None:
    """All connections of a node break, three times; new ones can be made at once."""
    _, proxy = _one(site)
    for _ in range(3):
        proxy.cut()
        await asyncio.sleep(_outage(site))


async def refuse_links(site: Site) -> None:
    """A node has no way to Valkey for a while, and knows it."""
    _, proxy = _one(site)
    proxy.refusing = True
    proxy.cut()
    try:
        await asyncio.sleep(_outage(site))
    finally:
        proxy.heal()


async def delay_links(site: Site) -> None:
    """All comes late; then it does not."""
    _, proxy = _one(site)
    proxy.delay = 0.5
    try:
        await asyncio.sleep(_outage(site))
    finally:
        proxy.heal()


async def truncate_links(site: Site) -> None:
    """Connections break in the middle of a message."""
    _, proxy = _one(site)
    for _ in range(3):
        proxy.truncate()
        await asyncio.sleep(_outage(site))
    proxy.heal()


async def _black_hole(site: Site, *, to_server: bool, from_server: bool) -> None:
    node, proxy = _one(site)
    proxy.hold(to_server=to_server, from_server=from_server)
    try:
        await until_unready(node)
        await asyncio.sleep(HOLE_SECONDS)
    finally:
        proxy.heal()


async def until_unready(node: Node) -> None:
    """Until the node has noticed that something is wrong."""
    async with asyncio.timeout(SERVER_SECONDS):
        while (await node.get("/health/ready"))[0] == 200:
            await asyncio.sleep(0.1)


async def black_hole(site: Site) -> None:
    """Packets vanish both ways; connections stay, and what was held arrives late."""
    await _black_hole(site, to_server=True, from_server=True)


async def mute_node(site: Site) -> None:
    """Packets vanish on their way to Valkey."""
    await _black_hole(site, to_server=True, from_server=False)


async def deafen_node(site: Site) -> None:
    """Packets vanish on their way from Valkey, which carries out what it is told."""
    await _black_hole(site, to_server=False, from_server=True)


# Clients


async def reconnect_all(site: Site) -> None:
    """All clients at once."""
    for subscriber in site.subscribers:
        subscriber.drop()
    await until(lambda: all(each.connected for each in site.subscribers), SERVER_SECONDS, lambda: "clients stay away")


async def stop_reading(site: Site) -> None:
    """Some clients do not read for a while, in which more is published than anybody would keep for them."""
    asleep = site.dice.sample(site.subscribers, len(site.subscribers) // 3)
    for subscriber in asleep:
        subscriber.read(False)
    try:
        for number in range(FLOOD):
            await site.writer.publish(site.nodes[number % len(site.nodes)].port, WIDE[number % 2], LARGE)
        await asyncio.sleep(_outage(site))
    finally:
        for subscriber in asleep:
            subscriber.read(True)


# Those that a durable Valkey can take.
DURABLE = ("restart from log", "stop valkey", "kill pubsub", "roll nodes")

_RECOVERED, _REFILLED, _GAPS = frozenset({"recovered"}), frozenset({"refilled"}), frozenset({"gaps"})

KINDS: Mapping[str, Kind] = {
    "kill node": Kind(kill_node, _RECOVERED),
    "roll nodes": Kind(roll_nodes, _RECOVERED),
    "stop node": Kind(stop_node, _RECOVERED),
    "restart empty": Kind(restart_empty, _GAPS),
    "restart from log": Kind(restart_from_log, _GAPS),
    "restart from snapshot": Kind(restart_from_snapshot, _GAPS),
    "stop valkey": Kind(stop_valkey, frozenset()),
    "kill pubsub": Kind(kill_pubsub, _REFILLED),
    "overflow": Kind(overflow, _REFILLED),
    "attach replica": Kind(attach_replica, frozenset()),
    "promote replica": Kind(promote_replica, _GAPS),
    "demote primary": Kind(demote_primary, _GAPS),
    "outlive promotion": Kind(outlive_promotion, frozenset()),
    "forge messages": Kind(forge_messages, frozenset()),
    "forge entries": Kind(forge_entries, _GAPS),
    "cut links": Kind(cut_links, _REFILLED),
    "refuse links": Kind(refuse_links, _REFILLED),
    "delay links": Kind(delay_links, frozenset()),
    "truncate links": Kind(truncate_links, _REFILLED),
    "black hole": Kind(black_hole, _REFILLED),
    "mute node": Kind(mute_node, frozenset()),
    "deafen node": Kind(deafen_node, _REFILLED),
    "reconnect all": Kind(reconnect_all, _RECOVERED),
    "stop reading": Kind(stop_reading, _RECOVERED),
}
