"""Client libraries of the HTTP API that only know `POST /api`: cent 4 and gocent 3, unmodified, on three nodes.

Their methods are asked on one node and act on clients of the others.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.sync.client import connect

from gateway.tokens import connection_token
from tests.api.clients import Native
from tests.cli.commands import wait_for
from tests.cluster.sdk import SDK_FOLDER
from tests.clusters import Cluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.registry]

# Far more than anything takes.
PATIENCE = 300.0
# A method of a library with its arguments; the result, or an ApiError.
Call = Callable[..., Any]

KEPT = {
    "GATEWAY_NAMESPACES__kept__DELIVERY": "recoverable",
    "GATEWAY_NAMESPACES__kept__PRESENCE": "true",
    "GATEWAY_NAMESPACES__kept__ALLOW_SUBSCRIBE": "client",
}


class ApiError(Exception):
    """The error of a command."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(env=KEPT) as running:
        yield running


@contextmanager
def user(cluster: Cluster, name: str, node: int) -> Iterator[Native]:
    """A connection of a user to one of the nodes."""
    url = f"{cluster.nodes[node].ws}/connection/websocket"
    with connect(url, compression=None, proxy=None) as socket:
        yield Native(socket, connection_token(cluster.hmac_secret, name))


def installed(command: list[str], cwd: Path) -> None:
    """Run a package manager; skips the test if it cannot get what it is asked for."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        pytest.skip(f"{' '.join(command[:4])}: {done.stderr[-300:]}")


@pytest.fixture(scope="module")
def cent4(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The PyPI package `cent` in version 4, beside version 5 of the environment."""
    folder = tmp_path_factory.mktemp("cent4")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "cent==4.1.0"]
    installed(pip, folder)
    found = importlib.util.spec_from_file_location("cent4", folder / "cent" / "__init__.py")
    assert found is not None
    assert found.loader is not None
    module = sys.modules["cent4"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gocent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that calls the Go module `gocent` in version 3."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs Go")
    program = tmp_path_factory.mktemp("gocent") / "gocent"
    installed([go, "build", "-o", str(program), "."], SDK_FOLDER / "gocent")
    return program


@pytest.fixture(params=["cent4", "gocent"])
def call(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Call]:
    """A method of either library, asked of the first node."""
    library = request.getfixturevalue(request.param)
    address = f"{cluster.nodes[0].url}/api"
    with (by_cent if request.param == "cent4" else by_gocent)(library, address, cluster.api_key) as caller:
        yield caller


@contextmanager
def by_cent(cent4: Any, address: str, key: str) -> Iterator[Call]:
    with requests.Session() as session:
        session.trust_env = False
        client = cent4.Client(address, key, session=session, timeout=30)

        def call(method: str, **arguments: Any) -> Any:
            try:
                return getattr(client, method)(**arguments)
            except cent4.ResponseError as error:
                raise ApiError(str(error)) from None

        yield call


@contextmanager
def by_gocent(program: Path, address: str, key: str) -> Iterator[Call]:
    with subprocess.Popen([program, address, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def call(method: str, **arguments: Any) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"method": method, **arguments}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if "text" in answer:
                raise ApiError(answer["text"])
            result = answer.get("result")
            return result["presence"] if method == "presence" else result

        yield call


def test_publish_and_broadcast(cluster: Cluster, call: Call) -> None:
    """Reach the clients of every node; a position where there is history, none with skip_history."""
    channel = "kept:news"
    with ExitStack() as stack:
        clients = [stack.enter_context(user(cluster, "ada", node)) for node in range(3)]
        for client in clients:
            client.subscribe(channel)
        position = call("publish", channel=channel, data={"a": 1})
        assert position["offset"] > 0
        skipped = call("publish", channel=channel, data="x", skip_history=True)
        assert not skipped.get("offset")
        responses = call("broadcast", channels=[channel, "nowhere:a"], data=2)["responses"]
        assert responses[0]["result"]["offset"] == position["offset"] + 1
        assert responses[1]["error"]["code"] == 102
        for client in clients:
            assert [client.publication()["data"] for _ in range(3)] == [{"a": 1}, "x", 2]
    with pytest.raises(ApiError, match="102"):
        call("publish", channel="nowhere:a", data=1)


def test_history(cluster: Cluster, call: Call) -> None:
    """All of it, a part after a position, the newest first, and nothing after it was removed."""
    channel = "kept:history"
    call("history_remove", channel=channel)
    for number in range(3):
        call("publish", channel=channel, data=number)
    whole = call("history", channel=channel, limit=-1)
    assert [each["data"] for each in whole["publications"]] == [0, 1, 2]
    since = {"offset": whole["publications"][0]["offset"], "epoch": whole["epoch"]}
    part = call("history", channel=channel, limit=1, since=since)
    assert [each["data"] for each in part["publications"]] == [1]
    newest = call("history", channel=channel, limit=1, reverse=True)
    assert [each["data"] for each in newest["publications"]] == [2]
    call("history_remove", channel=channel)
    empty = call("history", channel=channel, limit=-1)
    assert (empty["publications"], empty["offset"]) == ([], whole["offset"])
    with pytest.raises(ApiError, match="108"):
        call("history", channel="news")


def test_users(cluster: Cluster, call: Call) -> None:
    """Subscribe, presence, channels, unsubscribe and disconnect act on a client of another node."""
    channel = "kept:users"
    with user(cluster, "bob", 1) as bob, user(cluster, "bob", 2) as other:
        call("subscribe", user="bob", channel=channel, client=bob.id)
        assert bob.push()["channel"] == channel
        # The node says so to the client and to Redis at once, and another node reads it there.
        wait_for(lambda: call("presence", channel=channel) == {bob.id: {"user": "bob", "client": bob.id}})
        stats = call("presence_stats", channel=channel)
        assert (stats["num_clients"], stats["num_users"]) == (1, 1)

        def occupied() -> list[str]:
            found = call("channels", pattern="kept:users*")
            return list(found.get("channels", found))

        # Nodes report their channels with their heartbeats.
        wait_for(lambda: occupied() == [channel])
        call("unsubscribe", user="bob", channel=channel)
        assert bob.push()["unsubscribe"]["code"] == 2000
        call("disconnect", user="bob", client=bob.id)
        assert bob.close_code() == (3503, "force disconnect")
        call("disconnect", user="bob")
        assert other.close_code() == (3503, "force disconnect")


def test_info(cluster: Cluster, call: Call) -> None:
    """All nodes."""
    assert {node["name"] for node in call("info")["nodes"]} == {node.name for node in cluster.nodes}


def test_options_that_only_gocent_has(cluster: Cluster, gocent: Path) -> None:
    """A close code and a whitelist, spelt as only it spells them; an option that is not served fails the call."""
    with (
        by_gocent(gocent, f"{cluster.nodes[0].url}/api", cluster.api_key) as call,
        user(cluster, "eve", 1) as one,
        user(cluster, "eve", 2) as other,
    ):
        with pytest.raises(ApiError, match="`presence`"):
            call("subscribe", user="eve", channel="kept:eve", presence=True)
        info = {"user": "eve", "channel": "kept:eve", "data": {"d": 1}, "info": {"i": 1}}
        call("subscribe", **info, since={"offset": 0, "epoch": ""})
        assert one.push()["subscribe"]["data"] == {"d": 1}
        call("disconnect", user="eve", whitelist=[other.id], disconnect={"code": 4001, "reason": "enough"})
        assert one.close_code() == (4001, "enough")
        assert other.command(rpc={"method": "none"})["error"]["code"] == 108


def test_pipes(cluster: Cluster, gocent: Path, cent4: Any) -> None:
    """Many commands in one request: in their order, each with its own answer."""
    channel, count = "kept:pipe", 1_000
    with user(cluster, "ada", 2) as ada, by_gocent(gocent, f"{cluster.nodes[0].url}/api", cluster.api_key) as call:
        ada.subscribe(channel)
        replies = call("pipe", channel=channel, count=count)
        assert [index for index, reply in enumerate(replies) if reply["error"]] == [count // 2]
        assert [ada.publication()["data"] for _ in range(count)] == list(range(count))
        with requests.Session() as session:
            session.trust_env = False
            client = cent4.Client(f"{cluster.nodes[1].url}/api", cluster.api_key, session=session, timeout=30)
            client.add("publish", client.get_publish_params(channel, "a"))
            client.add("publish", client.get_publish_params("two words", "b"))
            client.add("presence_stats", client.get_presence_stats_params(channel))
            assert [list(reply) for reply in client.send()] == [["result"], ["error"], ["result"]]
        assert ada.publication()["data"] == "a"


def test_a_wrong_key_is_an_error_of_the_libraries(cluster: Cluster, gocent: Path, cent4: Any) -> None:
    """By the status, which both look at first."""
    address = f"{cluster.nodes[0].url}/api"
    with by_gocent(gocent, address, "wrong") as call, pytest.raises(ApiError, match="401"):
        call("info")
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(cent4.RequestException, match="401"):
            cent4.Client(address, "wrong", session=session, timeout=30).info()
