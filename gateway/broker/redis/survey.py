"""Asks a Redis server whether the gateway can work with it, before any node does: `gateway check --connect`."""

import re
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any, NamedTuple

from redis._parsers import _AsyncRESP2Parser
from redis.exceptions import NoPermissionError, NoScriptError, RedisError

from gateway.broker.redis.diagnosis import UNREADABLE, diagnose
from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.redis_registry import client_of
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.control import NodeId

# The oldest that has everything: SET with GET, XADD with NOMKSTREAM.
OLDEST = (6, 2)
_SECTIONS = ("server", "replication", "memory", "persistence", "cluster")
_SCRIPT = "return 1"
_COMMAND = re.compile(r"the '[^']*' command")
_VERSION = re.compile(r"(\d+)\.(\d+)")


class Survey(NamedTuple):
    """What was found: what the server is, why a node would not work with it, and what may go wrong later."""

    facts: list[str]
    errors: list[str]
    warnings: list[str]


async def survey(settings: RedisSettings) -> Survey:
    """Ask the server at `url`, which has to be set. Writes one key that no node uses, and removes it."""
    assert settings.url is not None
    target = Target.of(settings.url.get_secret_value())
    found = Survey([], [], [])
    client = client_of(target, settings, "gateway-check")
    # Another server may answer. "*1000000000" makes hiredis reserve the memory for a list of that length.
    client.connection_pool.connection_kwargs["parser_class"] = _AsyncRESP2Parser
    try:
        await client.ping()
        await _look_at_server(client, settings, target, found)
        await _look_at_partitions(client, Keys(settings.prefix, settings.partitions, target.database), found)
        await _look_at_rights(client, Keys(settings.prefix, settings.partitions, target.database), target, found)
    except (RedisError, OSError, TimeoutError, *UNREADABLE) as error:
        found.errors.append(
            f"redis.url: {target.name}: {await diagnose(error, target, settings) or str(error) or 'no answer in time'}"
        )
    finally:
        await client.aclose()
    return found


async def _look_at_server(client: Any, settings: RedisSettings, target: Target, found: Survey) -> None:
    try:
        info: dict[str, Any] = {}
        for section in _SECTIONS:
            info |= await client.info(section)
    except NoPermissionError as error:
        problem = f"redis.url: the server cannot be asked what it is (INFO): {error}"
        # With redis.durable, nodes need no INFO.
        (found.warnings if settings.durable else found.errors).append(problem)
        return
    found.facts.append(_description(info, target))
    version = str(info.get("redis_version", ""))
    number = _VERSION.match(version)
    if number is None or tuple(map(int, number.groups())) < OLDEST:
        found.errors.append(f"redis.url: the server has version {version}, expected 6.2 or newer")
    if info.get("role") != "master":
        found.errors.append(f"redis.url: this server is a {info.get('role')}, expected the primary")
    if info.get("cluster_enabled"):
        found.warnings.append("redis.url: the server is in cluster mode; the gateway uses one server, not a cluster")
    _look_at_eviction(info, found)
    if settings.durable:
        await _look_at_durability(client, info, found)


def _description(info: Mapping[str, Any], target: Target) -> str:
    role = "primary" if info.get("role") == "master" else info.get("role")
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = info.get("valkey_version", info.get("redis_version"))
    stored = "append-only file" if info.get("aof_enabled") else "no append-only file"
    replicas = info.get("connected_slaves", 0)
    return (
        f"{name} {version} at {target.name}, database {target.database}: {role}, {replicas} replicas, "
        f"maxmemory-policy {info.get('maxmemory_policy')}, {stored}"
    )


def _look_at_eviction(info: Mapping[str, Any], found: Survey) -> None:
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        now = "" if info.get("maxmemory") else " (which is not set now)"
        found.warnings.append(
            f"redis.url: maxmemory-policy is {policy}: at maxmemory{now}, leases, revocations and streams vanish "
            "unnoticed; set it to noeviction"
        )


async def _look_at_durability(client: Any, info: Mapping[str, Any], found: Survey) -> None:
    if info.get("connected_slaves"):
        found.warnings.append("redis.durable is set, but the server has replicas: one that takes over lacks writes")
    if not info.get("aof_enabled"):
        found.warnings.append("redis.durable is set, but the server has no append-only file (appendonly)")
        return
    try:
        synced = (await client.config_get("appendfsync")).get("appendfsync")
    except NoPermissionError:
        found.facts.append("appendfsync, on which redis.durable relies, is not known: CONFIG GET is not permitted")
        return
    if synced != "always":
        found.warnings.append(f"redis.durable is set, but appendfsync is {synced}: expected always")


async def _look_at_partitions(client: Any, keys: Keys, found: Survey) -> None:
    try:
        stored = await client.get(keys.partition_count())
    except NoPermissionError:
        # The rights of the user are looked at as a whole.
        return
    if stored is None:
        found.facts.append(f"no node has used the prefix {keys.prefix!r} here yet")
    elif stored != str(keys.partitions).encode():
        known = stored.decode(errors="replace")
        found.errors.append(
            f"redis.partitions is {keys.partitions}, but this Redis is in use with {known!r}: set it to that, or "
            "choose another redis.prefix"
        )
    else:
        found.facts.append(f"in use with the prefix {keys.prefix!r} and {keys.partitions} partitions")


def probes(key: bytes, bus: bytes) -> Sequence[tuple[Any, ...]]:
    """Each command that nodes and their scripts use, on a key and a bus channel that nobody uses.

    They do nothing (XX, NOMKSTREAM, nothing to remove) or write the key, which expires even if it cannot be removed.
    """
    return (
        *(("PING",), ("TIME",), ("PUBLISH", bus, ""), ("EVAL", _SCRIPT, 1, key)),
        *(("SCRIPT LOAD", _SCRIPT), ("EVALSHA", sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest(), 1, key)),
        *(("GET", key), ("MGET", key), ("EXISTS", key), ("SET", key, "", "XX")),
        *(("HSET", key, "f", "1"), ("EXPIRE", key, 1), ("HINCRBY", key, "f", 1), ("HGET", key, "f")),
        *(("HMGET", key, "f"), ("HGETALL", key), ("HVALS", key), ("HLEN", key), ("HEXISTS", key, "f")),
        *(("HKEYS", key), ("HSTRLEN", key, "f"), ("HSCAN", key, 0), ("HDEL", key, "f"), ("DEL", key)),
        *(("SADD", key, "m"), ("EXPIRE", key, 1), ("SMEMBERS", key), ("SCARD", key), ("SREM", key, "m"), ("DEL", key)),
        *(("ZADD", key, "XX", 0, "m"), ("ZSCORE", key, "m"), ("ZRANGEBYSCORE", key, 0, 1), ("ZREM", key, "m")),
        *(("ZRANGEBYLEX", key, "-", "+"), ("XADD", key, "NOMKSTREAM", "*", "f", "v"), ("XRANGE", key, "-", "+")),
        *(("XREVRANGE", key, "+", "-"), ("XLEN", key), ("XDEL", key, "0-1")),
    )


def _kind(error: NoPermissionError) -> str:
    """The answer without the command that it names: one line for all that are missing."""
    return _COMMAND.sub("these commands", str(error))


async def _look_at_rights(client: Any, keys: Keys, target: Target, found: Survey) -> None:
    nobody = secrets.token_hex(8)
    bus = keys.node(NodeId(nobody))
    refused: dict[str, list[str]] = defaultdict(list)
    for probe in probes(keys.lease(LeaseId(nobody)), bus):
        try:
            # Without the right to load a script it is not there; that right is named by itself.
            with suppress(NoScriptError):
                await client.execute_command(*probe)
        except NoPermissionError as error:
            refused[_kind(error)].append(probe[0])
    async with client.pubsub() as subscriber:
        try:
            await subscriber.subscribe(bus)
            await subscriber.parse_response()
        except NoPermissionError as error:
            refused[_kind(error)].append("SUBSCRIBE")
    user = target.username or "default"
    for reason, commands in refused.items():
        names = ", ".join(dict.fromkeys(commands))
        found.errors.append(f"redis.url: the user {user!r} lacks rights (docs/operations.md): {names}: {reason}")
