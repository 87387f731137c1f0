"""The code in the pages that lead a reader on works as it stands, and each block of it is run."""

import asyncio
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from gateway.config.sources import of_code
from gateway.testing import Refused, SyncTestGateway, TestGateway
from tests.api.site import running, settings_of
from tests.docs.pages import blocks, files, write
from tests.entrances.engine_client import EngineClient
from tests.entrances.ways import on_uvicorn

PAGES = (
    "tutorial",
    "channels",
    "recovery",
    "testing",
    "recipes",
    "moving",
    "deploy",
    "socketio",
    "migrating-from-socketio",
)
RECIPES = files("recipes")


def names_of(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "of_the_docs"}
    exec(compile(code, "docs", "exec", dont_inherit=True), names)
    return names


def recipe(name: str, **more: Any) -> SyncTestGateway:
    """A node with the settings and hooks of a recipe."""
    names = names_of(RECIPES[name])
    names.update(more)
    return SyncTestGateway(names["SETTINGS"], hooks=names["hooks"])


def test_every_block_of_python_is_a_file() -> None:
    """Which is run here, or by test_tutorial.py."""
    assert [each for page in PAGES for each in blocks(page) if each.language == "python" and not each.title] == []
    names = "rooms lines kick logout typing_now who_is_here last_seen notifications others_only"
    assert list(RECIPES) == [f"{name}.py" for name in names.split()]
    of_testing = {"realtime.py", "test_rooms.py", "with_asyncio.py", "with_a_clock.py", "with_an_app.py"}
    assert files("testing").keys() == of_testing
    assert files("moving").keys() == {"before.py", "after.py", "consumers.py", "realtime.py"}
    assert files("socketio").keys() == {"index.html", "socketio_hooks.py", "emits.py"}


@pytest.mark.parametrize("name", [name for name, code in RECIPES.items() if "async def test_" in code])
def test_recipes_that_test_themselves(name: str) -> None:
    names = names_of(RECIPES[name])
    tests = [each for found, each in names.items() if found.startswith("test_")]
    assert len(tests) == 1
    asyncio.run(tests[0]())


def test_permissions_per_room() -> None:
    with recipe("rooms.py") as gateway:
        ann, bob = gateway.connect("ann"), gateway.connect("bob")
        bob.subscribe("room:cats")
        ann.publish("room:cats", "hi")
        assert bob.next().data == "hi"
        with pytest.raises(Refused):
            bob.publish("room:cats", "hi")
        with pytest.raises(Refused):
            ann.subscribe("room:dogs")


def test_kick() -> None:
    """For good, and by the owner only."""
    with recipe("kick.py") as gateway:
        ann, bob = gateway.connect("ann"), gateway.connect("bob")
        bob.subscribe("room:cats")
        bob.subscribe("typing:cats")
        with pytest.raises(Refused, match="only the owner"):
            bob.rpc("kick", {"room": "cats", "user": "ann"})
        ann.rpc("kick", {"room": "cats", "user": "bob"})
        assert bob.unsubscribed == [("room:cats", 2000), ("typing:cats", 2000)]
        for channel in ("room:cats", "typing:cats"):
            with pytest.raises(Refused):
                bob.subscribe(channel)


def test_lines_are_stored_and_published_once() -> None:
    """A page that tries again, and one that loads them; others learn nothing."""
    names = names_of(RECIPES["lines.py"])

    async def played() -> None:
        async with TestGateway(names["gateway"], app=names["app"]) as node:
            assert (await node.http.get("/rooms/cats/lines")).status_code == 403
            await node.http.post("/login/ann")
            ann = await node.connect(cookies=dict(node.http.cookies))
            await ann.subscribe("room:cats")
            before = (await node.http.get("/rooms/cats/lines")).json()
            for _ in range(2):
                (await node.http.post("/rooms/cats/lines", json={"id": "1", "text": "hi"})).raise_for_status()
            line = {"id": "1", "user": "ann", "text": "hi"}
            assert (await ann.next()).data == line
            after = (await node.http.get("/rooms/cats/lines")).json()
            assert (before["lines"], after["lines"]) == ([], [line])
            assert [each["position"]["offset"] for each in (before, after)] == [0, 1]
            with pytest.raises(Refused):
                await ann.publish("room:cats", line)

    asyncio.run(played())


def test_logout() -> None:
    """Of one browser, the others come back; of all, none does."""
    names = names_of(RECIPES["logout.py"])
    with SyncTestGateway(names["SETTINGS"], hooks=names["hooks"]) as gateway:
        here, there = (gateway.connect(cookies={"session": session}) for session in ("s1", "s2"))
        gateway.run(names["log_out"]("s1"))
        assert [each.closed().code for each in (here, there)] == [4001, 4001]
        there.reconnect()
        with pytest.raises(Refused, match="log in first"):
            here.reconnect()
        gateway.run(names["log_out_everywhere"]("ann"))
        assert there.closed().code == 3503
        with pytest.raises(Refused, match="log in first"):
            there.reconnect()


def test_last_seen() -> None:
    names = names_of(RECIPES["last_seen.py"])
    with SyncTestGateway({}, hooks=names["hooks"]) as gateway:
        gateway.connect("ann").drop()
    assert names["LAST_SEEN"].keys() == {"ann"}


def test_exclude_the_sender() -> None:
    with recipe("others_only.py") as gateway:
        ann, bob, eve = (gateway.connect(user) for user in ("ann", "bob", "eve"))
        for each in (ann, bob):
            each.subscribe("draw:7")
        ann.rpc("draw", {"channel": "draw:7", "stroke": [1, 2]})
        bob.rpc("draw", {"channel": "draw:7", "stroke": [3, 4]})
        assert bob.next().data == {"by": "ann", "stroke": [1, 2]}
        assert ann.next().data == {"by": "bob", "stroke": [3, 4]}
        with pytest.raises(Refused):
            eve.rpc("draw", {"channel": "draw:7", "stroke": []})


def test_the_page_on_tests(tmp_path: Path) -> None:
    """As a reader runs them."""
    write("testing", tmp_path)
    alone = ("with_asyncio.py", "with_a_clock.py", "with_an_app.py")
    commands = (["-m", "pytest", "-p", "no:cacheprovider", "test_rooms.py"], *([name] for name in alone))
    for command in commands:
        subprocess.run([sys.executable, *command], cwd=tmp_path, timeout=60, check=True)


def test_moving_from_a_connection_manager() -> None:
    """Before and after, clients get the same."""
    moving = files("moving")
    app = names_of(moving["before.py"])["app"]
    with on_uvicorn(lambda: app) as address, connect(f"ws://{address}/ws/ann", proxy=None) as socket:
        with connect(f"ws://{address}/ws/bob", proxy=None) as other:
            other.send('"hi"')
            before = [json.loads(socket.recv(10))]
        before.append(json.loads(socket.recv(10)))
    with SyncTestGateway(names_of(moving["after.py"])["gateway"]) as gateway:
        ann, bob = (gateway.connect(query={"user": user}) for user in ("ann", "bob"))
        for each in (ann, bob):
            each.subscribe("room:lobby")
        bob.publish("room:lobby", "hi")
        after = [ann.next().data]
        bob.drop()
        after.append(ann.next(timeout=10).data)
    assert before == after == ["bob: hi", "bob left"]


def test_moving_from_django_channels() -> None:
    """The new side runs; the old one, whose package is not here, is only read."""
    moving = files("moving")
    compile(moving["consumers.py"], "consumers.py", "exec")
    names = names_of(moving["realtime.py"])

    async def user_of(session: str) -> str | None:
        return {"s3cret": "ann"}.get(session)

    async def is_member(user: str, room: str) -> bool:
        return (user, room) == ("ann", "cats")

    names |= {"user_of": user_of, "is_member": is_member}
    names["log_in"].__globals__.update(names)
    with SyncTestGateway(names["SETTINGS"], hooks=names["hooks"]) as gateway:
        ann = gateway.connect(cookies={"sessionid": "s3cret"})
        ann.subscribe("room:cats")
        with pytest.raises(Refused):
            ann.subscribe("room:dogs")
        with pytest.raises(Refused, match="log in first"):
            gateway.connect()


def test_socketio() -> None:
    """The settings and the hooks of the page, with a client of the protocol. (`emits.py` needs a Redis of its own.)"""
    page = files("socketio")
    compile(page["emits.py"], "emits.py", "exec")
    settings = next(tomllib.loads(each.code) for each in blocks("socketio") if each.language == "toml")
    hooks = names_of(page["socketio_hooks.py"])["hooks"]
    with (
        running(settings_of(**settings), hooks=hooks) as site,
        httpx.Client(base_url=f"http://{site.public}", trust_env=False) as http,
    ):
        stranger, client = EngineClient(http), EngineClient(http)
        stranger.send('40{"name":"ann","password":"guess"}')
        assert stranger.next() == '44{"message":"wrong password","data":{"code":103,"message":"wrong password"}}'
        for namespace in ("", "/admin,"):
            client.join('{"name":"ann","password":"secret"}', namespace)
        client.send('421["add",1,2]')
        assert client.next() == "431[3]"
        client.send('42/admin,2["add",1,2]')
        assert client.next() == "43/admin,2[[1,2]]"
        client.send('423["message","hi"]', '424["typing",true]')
        assert set(client.take(4)) == {'42["message","hi"]', "433[{}]", '42["typing",true]', "434[{}]"}


def test_settings() -> None:
    """The blocks of TOML are settings of a node, and open what the text says."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "toml":
                of_code(tomllib.loads(block.code))
    (block,) = (each for each in blocks("channels") if each.language == "toml")
    with SyncTestGateway({**tomllib.loads(block.code), "auth": {"anonymous": True}}) as gateway:
        ann, nobody = gateway.connect("ann"), gateway.connect()
        ann.subscribe("chat:lobby")
        ann.publish("chat:lobby", "hi")
        nobody.subscribe("price:EUR")
        with pytest.raises(Refused):
            nobody.subscribe("chat:lobby")
        with pytest.raises(Refused) as refused:
            ann.subscribe("chess:1")
        assert refused.value.code == 102
