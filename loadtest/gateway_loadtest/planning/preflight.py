"""What this machine allows, before the first connection is opened."""

import ipaddress
import math
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import structs

from gateway_loadtest.planning.plan import Plan

# Descriptors of a worker that are no connections.
RESERVED = 64
# Share of the ports that is used at most: others of this machine connect too.
USABLE = 0.9
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# As far as loopback addresses are added by themselves.
MOST_SOURCES = 200


class PreflightError(Exception):
    """This machine does not allow so many connections; the text says what would help."""


class Prepared(NamedTuple):
    """The plan as it can be run, and what was changed."""

    plan: Plan
    workers: int
    remarks: list[str]


def prepare(plan: Plan) -> Prepared:
    """Raises PreflightError."""
    remarks: list[str] = []
    workers = _workers(plan, remarks)
    return Prepared(_with_sources(plan, remarks), workers, remarks)


def _workers(plan: Plan, remarks: list[str]) -> int:
    """As many as asked for, or one per core but one; more where one process may not hold its connections."""
    wanted = plan.workers or max((os.cpu_count() or 2) - 1, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard
    if hard == resource.RLIM_INFINITY:
        limit = max(soft, 1_000_000)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):
        limit = soft
    total = plan.sockets
    needed = math.ceil(total / max(limit - RESERVED, 1))
    if needed > 1000:
        raise PreflightError(
            f"{total:,} connections do not fit: a process may open {limit} files here (ulimit -n). "
            "Raise it: ulimit -n 65536, or LimitNOFILE= of the service"
        )
    if needed > wanted:
        remarks.append(
            f"{needed} workers instead of {wanted}: a process may open {limit:,} files here (ulimit -n), "
            f"and {total:,} connections are wanted"
        )
    return max(needed, min(wanted, plan.connections + plan.publishers))


def _with_sources(plan: Plan, remarks: list[str]) -> Plan:
    """A source address has so many ports for each target; loopback has more addresses than anybody needs."""
    ports = ephemeral_ports()
    per_target = math.ceil(plan.sockets / len(plan.targets))
    have = max(len(plan.sources), 1) * ports
    if per_target <= have:
        return plan
    needed = math.ceil(per_target / ports)
    if plan.sources or not all(map(_is_loopback, plan.targets)) or needed > MOST_SOURCES:
        raise PreflightError(
            f"{per_target:,} connections to one target do not fit into {have:,} ports: give {needed} source addresses "
            "(--source, several times), more targets, or a wider net.ipv4.ip_local_port_range"
        )
    remarks.append(f"connecting from {needed} addresses of 127.0.0.0/8: one has {ports:,} ports for a target")
    return structs.replace(plan, sources=loopback_sources(needed))


def loopback_sources(number: int) -> tuple[str, ...]:
    first = int(ipaddress.IPv4Address("127.0.0.1"))
    return tuple(str(ipaddress.IPv4Address(first + index)) for index in range(number))


def ephemeral_ports() -> int:
    """That one address may use towards one target."""
    try:
        low, high = map(int, PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        # The range that IANA recommends (RFC 6335, section 6).
        low, high = 49152, 65535
    return int((high - low + 1) * USABLE)


def _is_loopback(target: str) -> bool:
    host = urlsplit(target).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def loopback_ports(targets: Sequence[str]) -> list[int]:
    """Of the targets on this machine: whoever listens there can be looked at."""
    parts = [urlsplit(target) for target in targets if _is_loopback(target)]
    return [each.port or (443 if each.scheme in ("wss", "https") else 80) for each in parts]
