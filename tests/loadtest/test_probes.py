"""Looking at servers, whatever they answer."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from gateway_loadtest import probes
from gateway_loadtest.planning.plan import Plan
from gateway_loadtest.planning.preflight import PreflightError
from gateway_loadtest.planning.scenarios import idle
from gateway_loadtest.probes import MetricsProbe, ProcessProbe, Record, UnreadableError, listening, probes_of
from tests.servers import free_port

HEAD = b"HTTP/1.0 200 OK\r\n\r\n"
GOOD = HEAD + b'process_cpu_seconds_total 5\nprocess_resident_memory_bytes{pid="1"} 100\nother 7\n'
# What an endless page sends at once, and until it is not wanted any more.
PIECE = b"# x\n"


@contextmanager
def page(answer: bytes, *, endless: bool = False) -> Iterator[MetricsProbe]:
    """Answers one request."""
    over = threading.Event()

    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(answer)
            while endless and not over.wait(0.05):
                try:
                    client.sendall(PIECE)
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield MetricsProbe(f"http://user:word@127.0.0.1:{server.getsockname()[1]}/metrics?a=1")
        over.set()
        thread.join()


def test_a_page_is_read() -> None:
    """Its name has no password."""
    with page(GOOD) as probe:
        assert probe.read() == (0.0, 100, 0)
        assert probe.name.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (HEAD + b"process_cpu_seconds_total abc\n", "could not convert string to float"),
        (HEAD + b"process_cpu_seconds_total 1\nprocess_resident_memory_bytes NaN\n", "is no number"),
        (HEAD + b"process_cpu_seconds_total +Inf\n", "is no number"),
        (HEAD + b"other 1\n", "the page has no process_cpu_seconds_total"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "the answer is 404"),
        (b'HTTP/1.0 503 x\r\n\r\n{"error":{"code":503,"message":"draining"}}', "the answer is 503: draining"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH"),
        (b"", "closed connection"),
    ],
)
def test_what_is_no_page_is_said(answer: bytes, trouble: str) -> None:
    with page(answer) as probe:
        record = Record(probe)
        record.read("begin")
        assert trouble in record.trouble
        assert (record.latest, record.cores) == (None, 0.0)


@pytest.mark.parametrize("answer", [b"", HEAD, b"HTTP/1.0 200 OK\r\nX: "])
def test_a_page_has_an_end_in_time(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """However slowly it goes on, and wherever."""
    monkeypatch.setattr(probes, "TIMEOUT", 0.5)
    with page(answer, endless=True) as probe, pytest.raises(UnreadableError):
        probe.read()


def test_a_page_has_an_end_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "LARGEST_PAGE", len(GOOD) - len(HEAD) - 1)
    with page(GOOD) as probe, pytest.raises(UnreadableError, match="more than"):
        probe.read()


def test_a_process_that_was_started_anew_is_counted_whole() -> None:
    """Also when it has used more by then than the one before."""
    port = free_port()
    code = (
        "import socket, sys, time\n"
        "server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while time.process_time() < float(sys.argv[2]): pass\n"
        "print(flush=True); sys.stdin.read()"
    )

    def start(used: float) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(port), str(used)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        return process

    with start(0.1) as first:
        probe = ProcessProbe("node", first.pid, port)
        assert probe.read().cpu == 0.0
        first.kill()
        first.wait()
    with start(0.5) as second:
        assert listening(port) == [second.pid]
        times = psutil.Process(second.pid).cpu_times()
        assert probe.read().cpu == pytest.approx(times.user + times.system, abs=0.02)
        second.kill()
        second.wait()
    with pytest.raises(UnreadableError):
        probe.read()


def plan(**fields: object) -> Plan:
    return Plan(scenario="idle", stages=idle(1), targets=("ws://127.0.0.1:1",), idle=1, **fields)  # type: ignore[arg-type]


def test_what_was_named_has_to_be_there() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(PreflightError, match=f"--pid {ended.pid}: "):
        probes_of(plan(pids=(ended.pid,)))
    found = probes_of(plan(pids=(os.getpid(),), metrics=("http://a/metrics",), redis="redis://127.0.0.1:1"))
    assert [each.kind for each in found] == ["process", "metrics", "redis"]
    assert found[2].name == "redis 127.0.0.1:1"
    assert probes_of(plan(redis="unix:///tmp/r.sock"))[-1].name == "redis /tmp/r.sock"
    record = Record(found[2])
    record.read()
    assert "refused" in record.trouble
