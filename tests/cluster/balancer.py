"""HAProxy in front of the nodes of a cluster, which leads each request to the next one, without stickiness."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.commands import wait_for
from tests.clusters import ClusterNode
from tests.servers import free_port

# One thread, so that there is one turn. What an ended node did not answer is asked again where it can be.
CONFIG = """
global
    nbthread 1
    stats socket {control} level admin
    log stdout format raw local0
defaults
    mode http
    log global
    log-format "%s %HM %HU"
    option dontlognull
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
frontend public
    bind 127.0.0.1:{port}
    http-request disable-l7-retry unless METH_GET
    default_backend nodes
backend nodes
    balance roundrobin
    option httpchk GET /health/ready
    default-server check inter 200ms fall 1 rise 1
"""
SID = re.compile(r"[?&]sid=([^&\s]+)")


class Asked(NamedTuple):
    """A request of the log."""

    node: str
    method: str
    target: str

    @property
    def sid(self) -> str:
        """The session of Engine.IO that it names; empty for none."""
        found = SID.search(self.target)
        return found[1] if found else ""


class Balancer:
    """A running one."""

    def __init__(self, port: int, nodes: list[ClusterNode], folder: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self.http = f"http://{self.address}"
        self.ws = f"ws://{self.address}"
        self._nodes = nodes
        self._folder = folder

    def lead_to(self, nodes: Iterable[ClusterNode]) -> None:
        """Send requests to these nodes only. Connections that are open stay."""
        chosen = list(nodes)
        for node in self._nodes:
            self.control(f"set server nodes/{node.name} state {'ready' if node in chosen else 'maint'}")

    def control(self, command: str) -> str:
        """Ask the running HAProxy."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(control_of(self._folder)))
            connection.sendall(command.encode() + b"\n")
            with connection.makefile() as answer:
                return answer.read()

    def asked(self) -> list[Asked]:
        """The requests that have ended so far."""
        lines = log_of(self._folder).read_text().splitlines()
        return [Asked(*fields) for line in lines if len(fields := line.split()) == 3]


def control_of(folder: Path) -> Path:
    return folder / "haproxy.sock"


def log_of(folder: Path) -> Path:
    return folder / "haproxy.log"


@contextmanager
def balanced(nodes: list[ClusterNode], folder: Path) -> Iterator[Balancer]:
    """HAProxy, once all nodes are up for it."""
    haproxy = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
    if haproxy is None:
        pytest.skip("no haproxy (Debian: haproxy)")
    port = free_port()
    servers = "".join(f"    server {node.name} {node.url.removeprefix('http://')}\n" for node in nodes)
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(control=control_of(folder), port=port) + servers)
    with log_of(folder).open("wb") as log:
        process = subprocess.Popen([haproxy, "-db", "-f", config], stdout=log, stderr=subprocess.DEVNULL)
    try:
        balancer = Balancer(port, nodes, folder)
        wait_for(lambda: process.poll() is not None or is_up(port))
        assert process.poll() is None, "haproxy ended"
        yield balancer
    finally:
        process.kill()
        process.wait()


def is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
