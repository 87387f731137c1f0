"""Redis behind TLS: the certificate is checked, name and all."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from gateway.messages import Channel
from tests.broker.members import make_redis_member, redis_member
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer

ROOM = Channel("default", "room")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def settings(port: int, authority: trustme.CA | None, folder: Path) -> RedisSettings:
    file = None
    if authority is not None:
        file = folder / "ca.pem"
        authority.cert_pem.write_to_path(file)
    return RedisSettings(url=SecretStr(f"rediss://localhost:{port}/0"), prefix="tls", tls_ca_file=file)


def test_messages_pass_through_tls(valkey: ValkeyServer, authority: trustme.CA, tmp_path: Path) -> None:
    """The registry, which uses redis-py, and both links."""

    async def scenario() -> None:
        async with (
            proxied(valkey.port, server_context(authority, "localhost")) as proxy,
            redis_member(settings(proxy.port, authority, tmp_path), "a") as member,
        ):
            await member.subscribe(ROOM)
            await member.publish(ROOM, b"1", "key")
            await member.inbox.until(lambda: member.inbox.data == [b"1"])
            assert [info.name for info in await member.registry.nodes()] == ["a"]

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_certificate_that_proves_nothing_is_refused(
    valkey: ValkeyServer, authority: trustme.CA, tmp_path: Path, wrong: str
) -> None:
    async def scenario() -> None:
        name = "elsewhere.example" if wrong == "name" else "localhost"
        trusted = authority if wrong == "name" else None
        async with proxied(valkey.port, server_context(authority, name)) as proxy:
            member = make_redis_member(settings(proxy.port, trusted, tmp_path), "a")
            with pytest.raises(BrokerUnavailable, match="certificate"):
                await member.broker.start(member.inbox)

    asyncio.run(scenario())
