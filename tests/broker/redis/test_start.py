"""Where a node finds its Redis, what it says when it cannot, and what it leaves behind then."""

import asyncio
from pathlib import Path

import pytest
import redis
import trustme

from gateway.errors import BrokerUnavailable, ConfigError
from tests.broker.members import PATIENCE, make_redis_member, redis_member
from tests.broker.redis.nodes import KEYS, ROOM, settings
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer, valkey_server


def test_another_number_of_partitions_refuses_to_start(server: ValkeyServer) -> None:
    """With the key and both numbers in the text; nothing of it stays connected."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a"):
            other = make_redis_member(settings(server.url, partitions=8), "b")
            with pytest.raises(ConfigError, match=rf"redis\.partitions is 8, .* {KEYS.partitions}"):
                await other.broker.start(other.inbox)
            with redis.Redis.from_url(server.url) as client:
                assert not [each for each in client.client_list() if each["name"].startswith("gateway-b")]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://127.0.0.1:1/0", "127.0.0.1:1"),
        ("unix:///nonexistent/valkey.sock", "/nonexistent/valkey.sock"),
        ("redis://nobody.invalid:6379/0", "nobody.invalid"),
    ],
)
def test_a_redis_that_is_not_there_is_named(url: str, text: str) -> None:
    async def scenario() -> None:
        member = make_redis_member(settings(url), "a")
        with pytest.raises(BrokerUnavailable, match=text):
            await member.broker.start(member.inbox)

    asyncio.run(scenario())


def test_logins() -> None:
    """Password, user and database count; a wrong one is told without being shown."""

    async def scenario(server: ValkeyServer) -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL SETUSER ada on >geheim/@: ~* &* +@all")
        for url in (
            server.url,
            server.unix_url,
            f"redis://ada:geheim%2F%40%3A@127.0.0.1:{server.port}/3",
            server.unix_url + "?db=2",
        ):
            async with redis_member(settings(url), "a") as member:
                await member.subscribe(ROOM)
                await member.publish(ROOM, b"1", url)
                await member.inbox.until(lambda inbox=member.inbox: bool(inbox.data))  # type: ignore[misc]
        with redis.Redis(port=server.port, password=server.password, db=3) as client:
            assert client.exists(KEYS.partition_count())
        for url in (f"redis://:wrong-one@127.0.0.1:{server.port}/0", f"redis://127.0.0.1:{server.port}/0"):
            member = make_redis_member(settings(url), "a")
            with pytest.raises(BrokerUnavailable) as caught:
                await member.broker.start(member.inbox)
            assert "wrong-one" not in str(caught.value)

    with valkey_server(password="open sesame") as server:
        asyncio.run(scenario(server))


def test_a_user_who_may_not_subscribe_is_told_what_redis_said(server: ValkeyServer) -> None:
    """New users of Redis may use no channels until `&*` is given, which is easily forgotten. No waiting for a limit."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL SETUSER ada on >geheim ~* +@all resetchannels")
        url = f"redis://ada:geheim@127.0.0.1:{server.port}/0"
        member = make_redis_member(settings(url, connect_timeout=PATIENCE * 10), "a")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(BrokerUnavailable, match=r"NOPERM.*channel"):
                await member.broker.start(member.inbox)

    asyncio.run(scenario())


def test_a_server_that_never_confirms_is_given_up(server: ValkeyServer) -> None:
    """It logs in and answers, but swallows SUBSCRIBE: nothing would ever arrive."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy:
            proxy.drop(b"SUBSCRIBE")
            through = settings(f"redis://127.0.0.1:{proxy.port}/0", connect_timeout=0.3)
            member = make_redis_member(through, "a", settings(server.url))
            with pytest.raises(BrokerUnavailable, match="does not confirm"):
                await member.broker.start(member.inbox)

    asyncio.run(scenario())


def test_certificates_without_tls_change_nothing(server: ValkeyServer, tmp_path: Path) -> None:
    """`redis.tls_ca_file` may stay when the URL is changed to one without TLS."""

    async def scenario() -> None:
        file = tmp_path / "ca.pem"
        trustme.CA().cert_pem.write_to_path(file)
        for url in (server.url, server.unix_url):
            async with redis_member(settings(url, tls_ca_file=file), "a") as member:
                assert [info.name for info in await member.registry.nodes()] == ["a"]

    asyncio.run(scenario())
