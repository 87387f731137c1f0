"""The tool against real nodes: what it finds, and how it ends when something is wrong."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway_loadtest.planning.plan import OVER_HTTP
from gateway_loadtest.results.result import Result
from tests.clusters import Cluster, running_cluster
from tests.loadtest.tool import OPEN, PATIENCE, SECRET, finish, node, run, start
from tests.servers import valkey_server

pytestmark = [pytest.mark.slow, pytest.mark.traced]
SMALL = ("--channels", "6", "--members", "4", "--rate", "20", "--seconds", "3", "--grace", "5")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(nodes=3, env=OPEN) as cluster:
        yield cluster


def targets(cluster: Cluster) -> list[str]:
    return [word for each in cluster.nodes for word in ("--target", each.ws)]


def web_targets(cluster: Cluster) -> list[str]:
    return [word.replace("ws://", "http://") for word in targets(cluster)]


def test_nothing_is_lost_between_three_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """Every pair of nodes; the report is written; the result is what the exit status says."""
    outcome = run(tmp_path, "rooms", *targets(cluster), *SMALL)
    assert outcome.result is not None, outcome.output
    # On a busy machine the generator may say that it was the bottleneck; it counts all the same.
    assert outcome.status == {"passed": 0, "invalid": 3}[outcome.result.outcome], outcome.output
    totals = outcome.result.totals
    assert (totals.published, totals.acknowledged, totals.expected, totals.received) == (360, 360, 1440, 1440)
    assert (totals.lost, totals.duplicated, totals.misordered) == (0, 0, 0)
    assert len(outcome.result.pairs) == 9
    assert outcome.result.latencies.delivery.count == 1440
    assert outcome.result.latencies.acknowledgement.count == 360
    assert len(outcome.result.servers) == 3
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_those_that_are_cut_recover(cluster: Cluster, tmp_path: Path) -> None:
    outcome = run(tmp_path, "storm", *targets(cluster), *SMALL, "--drop", "0.5")
    assert outcome.result is not None, outcome.output
    totals = outcome.result.totals
    assert (totals.disconnects, totals.reconnects, totals.recovered, totals.not_recovered) == (12, 12, 12, 0)
    assert (totals.expected, totals.lost, totals.duplicated, totals.misordered) == (totals.received, 0, 0, 0)
    assert outcome.result.latencies.recovery.count == 12


def test_connections_that_only_stay(cluster: Cluster, tmp_path: Path) -> None:
    outcome = run(tmp_path, "idle", *targets(cluster), "--connections", "60", "--seconds", "1")
    assert outcome.result is not None, outcome.output
    assert outcome.result.totals.connections == 60
    assert outcome.result.totals.expected == 0


def test_a_node_that_drops_deliveries_is_found(tmp_path: Path) -> None:
    """Every hundredth of one of two nodes: told with the exit status, and counted to the last one."""
    leak = tmp_path / "leak"
    with valkey_server() as valkey:
        redis = {"GATEWAY_REDIS__URL": valkey.url}
        leaky = {**redis, "LEAK_EVERY": "100", "LEAK_FILE": str(leak)}
        with node(env=redis) as (good, _), node("tests.loadtest.leaky_node", leaky) as (bad, _):
            ends = ("--target", f"ws://127.0.0.1:{good}", "--target", f"ws://127.0.0.1:{bad}")
            outcome = run(tmp_path, "rooms", *ends, *SMALL, "--grace", "2")
    assert outcome.result is not None, outcome.output
    dropped = int(leak.read_text())
    assert dropped >= 5
    assert outcome.status == 1
    assert outcome.result.totals.lost == dropped
    assert f"{dropped} lost" in outcome.output
    losers = {pair.subscriber for pair in outcome.result.pairs if pair.lost}
    assert losers == {f"ws://127.0.0.1:{bad}"}


@pytest.mark.parametrize("protocol", OVER_HTTP)
@pytest.mark.parametrize("times", [0, 2])
def test_what_a_node_drops_or_doubles_is_found_over_http(tmp_path: Path, protocol: str, times: int) -> None:
    """To the last one, as over a WebSocket."""
    leak = tmp_path / "leak"
    env = {"LEAK_EVERY": "100", "LEAK_FILE": str(leak), "LEAK_TIMES": str(times)}
    with node("tests.loadtest.leaky_node", env) as (port, _):
        target = ("--target", f"http://127.0.0.1:{port}", "--protocol", protocol)
        outcome = run(tmp_path, "rooms", *target, *SMALL, "--grace", "2")
    assert outcome.result is not None, outcome.output
    wrong = int(leak.read_text())
    assert wrong >= 10
    assert outcome.status == 1
    totals = outcome.result.totals
    assert (totals.lost, totals.duplicated) == ((0, wrong) if times else (wrong, 0))


@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_those_that_are_cut_recover_over_http(cluster: Cluster, tmp_path: Path, protocol: str) -> None:
    """Every publication is there once, in order, on all three nodes."""
    outcome = run(tmp_path, "storm", *web_targets(cluster), "--protocol", protocol, *SMALL, "--drop", "0.5")
    assert outcome.result is not None, outcome.output
    totals = outcome.result.totals
    assert (totals.disconnects, totals.reconnects, totals.recovered, totals.not_recovered) == (12, 12, 12, 0)
    assert (totals.published, totals.acknowledged, totals.refused) == (1560, 1560, 0)
    assert (totals.expected, totals.lost, totals.duplicated, totals.misordered) == (totals.received, 0, 0, 0)
    assert totals.received == 6240


@pytest.mark.parametrize("scheme_and_protocol", ["ws centrifuge", *(f"http {each}" for each in OVER_HTTP)])
def test_a_node_that_dies_is_survived(tmp_path: Path, scheme_and_protocol: str) -> None:
    """Its clients come back on the other one and recover; the run ends with all counted."""
    scheme, protocol = scheme_and_protocol.split()
    with valkey_server() as valkey:
        redis = {"GATEWAY_REDIS__URL": valkey.url}
        with node(env=redis) as (one, _), node(env=redis) as (two, victim):
            ends = ("--target", f"{scheme}://127.0.0.1:{one}", "--target", f"{scheme}://127.0.0.1:{two}")
            commands = ("--command", f"kill -9 {victim}", "--command", "exit 3", "--pause", "0.1")
            outcome = run(tmp_path, "rolling", *ends, "--protocol", protocol, *SMALL, *commands)
    assert outcome.result is not None, outcome.output
    totals = outcome.result.totals
    assert (totals.lost, totals.duplicated, totals.misordered) == (0, 0, 0)
    assert totals.recovered >= 12
    assert "the command ended with status 3" in outcome.output


@pytest.mark.parametrize("protocol", OVER_HTTP)
def test_a_refused_token_is_said_over_http(cluster: Cluster, tmp_path: Path, protocol: str) -> None:
    """The code comes in a message, and is as final as that of a WebSocket."""
    options = ("--protocol", protocol, "--token-secret", "another-secret-that-is-long-enough")
    outcome = run(tmp_path, "rooms", *web_targets(cluster), *SMALL, *options)
    assert outcome.status == 4
    assert "LOADTEST_TOKEN_SECRET has to be the secret that it checks them with" in outcome.output
    assert "0 of 30 connections" in outcome.output
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_measured(cluster: Cluster, tmp_path: Path, number: signal.Signals) -> None:
    """And so does the signal of `timeout`, which goes to the whole group too."""
    process = start(tmp_path, "rooms", *targets(cluster), *SMALL, "--seconds", "50")
    assert process.stdout is not None
    while "steady" not in process.stdout.readline():
        pass
    os.killpg(process.pid, number)
    outcome = finish(process, tmp_path)
    assert outcome.status == 130
    assert outcome.result is not None
    assert outcome.result.outcome == "interrupted"
    assert outcome.result.totals.connections == 30
    assert "Interrupted" in outcome.output


def test_a_refused_token_is_said(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--token-secret", "another-secret-that-is-long-enough")
    outcome = run(tmp_path, "rooms", *targets(cluster), *SMALL, *options)
    assert outcome.status == 4
    assert "gave up" in outcome.output
    assert "LOADTEST_TOKEN_SECRET has to be the secret that it checks them with" in outcome.output
    assert "0 of 30 connections" in outcome.output


def test_a_missing_token_is_said(cluster: Cluster, tmp_path: Path) -> None:
    outcome = run(tmp_path, "rooms", *targets(cluster), *SMALL, "--token-secret", "")
    assert outcome.status == 4
    assert "no token was sent: set LOADTEST_TOKEN_SECRET" in outcome.output


def test_a_refused_connection_quotes_the_server(tmp_path: Path) -> None:
    """Its message tells which limit it was."""
    with valkey_server() as valkey:
        full = {"GATEWAY_REDIS__URL": valkey.url, "GATEWAY_LIMITS__CONNECTIONS": "5"}
        with node(env=full) as (port, _):
            outcome = run(tmp_path, "rooms", "--target", f"ws://127.0.0.1:{port}", *SMALL, "--connect-timeout", "8")
    assert outcome.status == 4
    assert outcome.result is not None
    quoted = "the server refused the upgrade with 503: too many connections (connections)"
    assert any(each.endswith(quoted) for each in outcome.result.errors), outcome.result.errors


def test_who_may_not_subscribe_is_not_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    """All have given up or are ready, the publishers: nobody else will come."""
    outcome = run(tmp_path, "rooms", *targets(cluster), *SMALL, "--prefix", "closed:")
    assert outcome.status == 4
    assert outcome.result is not None
    assert outcome.result.seconds < 30
    assert "gave up: subscribe to closed:" in outcome.output
    assert (
        "the server has no namespace 'closed': configure it, or choose another prefix (--prefix), of" in outcome.output
    )
    assert "TOKEN_SECRET" not in outcome.output


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    outcome = run(tmp_path, "rooms", "--target", f"ws://127.0.0.1:{port}", *SMALL)
    assert outcome.status == 4
    assert outcome.result is not None
    first, second = outcome.result.remarks
    assert first == f"nothing listens at 127.0.0.1:{port}: is the server running? --target names another one"
    assert second.startswith("0 of 30 connections were ready")
    assert "Connection refused" in outcome.output
    assert "late" not in outcome.output


def test_no_such_host(tmp_path: Path) -> None:
    """Each attempt is counted, and none is printed."""
    outcome = run(tmp_path, "idle", "--connections", "3", "--seconds", "1", "--target", "ws://none.invalid:1")
    assert outcome.status == 4
    assert outcome.result is not None
    assert outcome.result.remarks[0].startswith("the host of none.invalid:1 is not known: --target names another")
    assert "gaierror" not in outcome.output


def test_the_result_alone_on_standard_output(cluster: Cluster) -> None:
    """Out of a container that has no file to give."""
    command = [sys.executable, "-m", "gateway_loadtest", "rooms", *targets(cluster), *SMALL, "--json", "-"]
    environ = {**os.environ, "LOADTEST_TOKEN_SECRET": SECRET}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environ, timeout=PATIENCE)
    assert msgspec.json.decode(done.stdout, type=Result).totals.received == 1440, done.stderr
    assert b"1,440 of 1,440" in done.stderr


def test_another_protocol_at_the_other_end(tmp_path: Path) -> None:
    """A server that answers, but not with a WebSocket."""
    with valkey_server() as valkey, node(env={"GATEWAY_REDIS__URL": valkey.url}) as (port, _):
        target = f"ws://127.0.0.1:{port}/health/live"
        outcome = run(tmp_path, "rooms", "--target", target, *SMALL)
    assert outcome.status == 4
    assert "refused the upgrade with " in outcome.output or "connection lost" in outcome.output


def test_no_process_is_left(cluster: Cluster, tmp_path: Path) -> None:
    """Also when the tool itself is killed."""
    process = start(tmp_path, "rooms", *targets(cluster), *SMALL, "--seconds", "50")
    assert process.stdout is not None
    while "steady" not in process.stdout.readline():
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while _members(process.pid):
        assert time.monotonic() < deadline, "a worker is left"
        time.sleep(0.1)


def _members(group: int) -> list[int]:
    """Of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # State and process group (proc(5)).
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found
