"""Tests of the chat: pytest test_app.py"""

import asyncio

import pytest
from app import app, gateway

from gateway.testing import Refused, TestClient, TestGateway


async def log_in(node: TestGateway, name: str) -> TestClient:
    await node.http.post("/login", data={"name": name})
    return await node.connect(cookies=dict(node.http.cookies))


def test_members_chat_and_miss_nothing() -> None:
    async def scenario() -> None:
        async with TestGateway(gateway, app=app) as node:
            ann, bob = await log_in(node, "ann"), await log_in(node, "bob")
            for member in (ann, bob):
                await member.subscribe("room:cats")
            await bob.drop()
            await ann.publish("room:cats", {"text": "hi"})
            assert (await bob.reconnect())["room:cats"].recovered
            line = await bob.next()
            assert (line.user, line.data) == ("ann", {"text": "hi"})

    asyncio.run(scenario())


def test_others_stay_outside() -> None:
    async def scenario() -> None:
        async with TestGateway(gateway, app=app) as node:
            with pytest.raises(Refused, match="log in first"):
                await node.connect()
            ann = await log_in(node, "ann")
            with pytest.raises(Refused, match="permission denied"):
                await ann.subscribe("room:dogs")

    asyncio.run(scenario())
