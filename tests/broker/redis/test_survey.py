"""What `gateway check --connect` asks a server, with real ones."""

import asyncio
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from gateway.broker.redis.survey import Survey, probes, survey
from gateway.config.settings import RedisSettings
from tests.servers import ValkeyServer, free_port, valkey_server

# As docs/operations.md has it.
LEAST_RIGHTS = "~gw:* &gw:* +@read +@write +@pubsub +@scripting +@connection +info +time"


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@pytest.fixture
def admin(valkey: ValkeyServer) -> Iterator[Any]:
    """A client that may do anything; it leaves the server as it was."""
    with redis.Redis.from_url(valkey.url) as client:
        yield client
        client.flushall()
        client.acl_deluser("gw")
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def ask(url: str, **settings: Any) -> Survey:
    return asyncio.run(survey(RedisSettings(url=SecretStr(url), **settings)))


def test_a_sound_server_is_described(valkey: ValkeyServer, admin: Any) -> None:
    """Name, version, role and what it keeps; nothing is left on it."""
    found = ask(valkey.url)
    assert (found.errors, found.warnings) == ([], [])
    assert found.facts[0].startswith("Valkey ")
    assert f"at 127.0.0.1:{valkey.port}, database 0: primary, 0 replicas" in found.facts[0]
    assert "maxmemory-policy noeviction, no append-only file" in found.facts[0]
    assert found.facts[1] == "no node has used the prefix 'gw' here yet"
    assert admin.keys("*") == []


def test_the_number_of_partitions_has_to_be_that_of_the_installation(valkey: ValkeyServer, admin: Any) -> None:
    """Otherwise a node would not start."""
    admin.set("gw:{home}:partitions:0::", 256)
    assert "in use with the prefix 'gw' and 256 partitions" in (ask(valkey.url)).facts
    (error,) = (ask(valkey.url, partitions=16)).errors
    assert "redis.partitions is 16, but this Redis is in use with '256'" in error
    assert (ask(valkey.url, prefix="other", partitions=16)).errors == []


def test_eviction_is_warned_of(valkey: ValkeyServer, admin: Any) -> None:
    """Leases and streams must not vanish."""
    admin.config_set("maxmemory-policy", "allkeys-lru")
    (warning,) = (ask(valkey.url)).warnings
    assert "maxmemory-policy is allkeys-lru: at maxmemory (which is not set now), leases" in warning
    admin.config_set("maxmemory", "100mb")
    (warning,) = (ask(valkey.url)).warnings
    assert "allkeys-lru: at maxmemory, leases" in warning


def test_durable_needs_a_server_that_is() -> None:
    """An append-only file that is written before each answer, and no replica that takes over."""
    with valkey_server("--appendonly", "yes", "--appendfsync", "everysec") as server:
        assert (ask(server.url)).warnings == []
        assert (ask(server.url, durable=True)).warnings == [
            "redis.durable is set, but appendfsync is everysec: expected always"
        ]
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set("appendfsync", "always")
            assert (ask(server.url, durable=True)).warnings == []
            admin.config_set("appendonly", "no")
            (warning,) = (ask(server.url, durable=True)).warnings
            assert "no append-only file" in warning


@pytest.mark.slow
def test_a_replica_is_refused(valkey: ValkeyServer) -> None:
    """Nodes need the primary, and durable ones a primary without replicas."""
    with valkey_server("--replicaof", "127.0.0.1", str(valkey.port)) as replica:
        assert "redis.url: this server is a slave, expected the primary" in (ask(replica.url)).errors
        with redis.Redis.from_url(replica.url) as client:
            while client.info("replication")["master_link_status"] != "up":
                pass
        assert any("has replicas" in warning for warning in (ask(valkey.url, durable=True)).warnings)


def test_cluster_mode_is_warned_of() -> None:
    """This one has no slots, so that nothing can be written either."""
    with valkey_server("--cluster-enabled", "yes") as server:
        found = ask(server.url)
    assert any("cluster mode" in warning for warning in found.warnings)
    assert any("Hash slot not served" in error for error in found.errors)


def test_a_server_that_cannot_be_reached_is_an_error(valkey: ValkeyServer) -> None:
    """Nothing there, another password, a silent one; no password is shown."""
    (error,) = (ask(f"redis://127.0.0.1:{free_port()}")).errors
    assert "redis.url: 127.0.0.1:" in error
    with valkey_server(password="right") as server:
        (error,) = (ask(server.url.replace("right", "wrong-one"))).errors
        assert "refuses this password for the user 'default'" in error
        assert "wrong-one" not in error
    valkey.freeze()
    try:
        (error,) = (ask(valkey.url, publish_timeout=0.1, connect_timeout=0.1)).errors
        assert "no answer within 0.1 s (redis.publish_timeout)" in error
    finally:
        valkey.thaw()


def as_user(valkey: ValkeyServer, admin: Any, *rights: str) -> str:
    """The URL for a user with these rights only."""
    admin.execute_command("ACL", "SETUSER", "gw", "reset", "on", ">hush", *rights)
    return f"redis://gw:hush@127.0.0.1:{valkey.port}/0"


def test_the_documented_rights_are_enough(valkey: ValkeyServer, admin: Any) -> None:
    """Those of docs/operations.md; CONFIG GET is not among them, which is said where it matters."""
    url = as_user(valkey, admin, *LEAST_RIGHTS.split())
    assert (ask(url)).errors == []
    admin.config_set("appendonly", "yes")
    found = ask(url, durable=True)
    admin.config_set("appendonly", "no")
    assert (found.errors, found.warnings) == ([], [])
    assert any("appendfsync, on which redis.durable relies, is not known" in fact for fact in found.facts)


NAMES = sorted({name for name, *_ in probes(b"k", b"b")} - {"PING"} | {"SUBSCRIBE"})


@pytest.mark.parametrize("name", NAMES)
def test_each_missing_right_is_named(valkey: ValkeyServer, admin: Any, name: str) -> None:
    """One command fewer is one command in the error, with the user."""
    url = as_user(valkey, admin, *LEAST_RIGHTS.split(), f"-{name.replace(' ', '|').lower()}")
    (error,) = (ask(url)).errors
    assert f"the user 'gw' lacks rights (docs/operations.md): {name}: " in error


def test_keys_and_bus_channels_are_rights_too(valkey: ValkeyServer, admin: Any) -> None:
    """Of another prefix, for example."""
    url = as_user(valkey, admin, *LEAST_RIGHTS.replace("gw:*", "other:*").split())
    errors = (ask(url)).errors
    assert any("GET, " in error and "key" in error.lower() for error in errors)
    assert any("PUBLISH, SUBSCRIBE" in error and "channel" in error.lower() for error in errors)


def test_without_info_a_node_does_not_start(valkey: ValkeyServer, admin: Any) -> None:
    """Unless it has redis.durable."""
    url = as_user(valkey, admin, *LEAST_RIGHTS.split(), "-info")
    assert any("cannot be asked what it is (INFO)" in error for error in (ask(url)).errors)
    found = ask(url, durable=True)
    assert found.errors == []
    assert any("(INFO)" in warning for warning in found.warnings)


def test_every_command_of_the_scripts_is_tried() -> None:
    """A script that begins to use another one needs a right for it."""
    scripts = files("gateway.broker.redis").joinpath("scripts").iterdir()
    used = {name for script in scripts for name in re.findall(r"redis\.p?call\('(\w+)'", script.read_text())}
    assert used
    assert used - {"INFO"} <= {name for name, *_ in probes(b"k", b"b")}
