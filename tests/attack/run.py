"""One attack: a node with an attacker, and then another node with the same attacker at a sink beside it."""

import asyncio
import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import IO

from tests.attack.attacker import Tally
from tests.attack.attackers import ATTACKERS, READY
from tests.attack.probe import Connects, Publications
from tests.attack.site import Node, Site, redis_bytes, redis_keys, site, socket_bytes
from tests.attack.table import Result
from tests.benchmarks.processes import usage
from tests.faults.processes import ProcessError

_HOST = "127.0.0.1"
_SAMPLE = 0.05
# Beyond the seconds of the attack, for connections to open and for the end.
_PATIENCE = 30.0
# Bytes a second of a sink at least: handshakes are not in the tally.
_LEAST_RATE = 1e6


class Peaks:
    """The largest sizes of a node and of the kernel's socket buffers, while it is watched."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._sockets = socket_bytes()
        self.start = usage(pid).rss
        self.rss = self.start
        self.sockets = 0

    async def watch(self) -> None:
        """Until it is cancelled, or the node is gone."""
        with suppress(FileNotFoundError, ProcessLookupError):
            while True:
                self.rss = max(self.rss, usage(self._pid).rss)
                self.sockets = max(self.sockets, socket_bytes() - self._sockets)
                await asyncio.sleep(_SAMPLE)


async def measure(name: str, seconds: float, gateway: Sequence[str]) -> Result:
    """Raises ProcessError, OSError."""
    settings = ATTACKERS[name].settings
    async with site(gateway, settings) as attacked:
        result = await _attacked(attacked, name, seconds)
    async with site(gateway, settings) as idle:
        return replace(result, sink=await _beside_sink(idle, result.tally, name, seconds))


async def _attacked(where: Site, name: str, seconds: float) -> Result:
    node, valkey = where.node, where.valkey
    keys, memory = await redis_keys(valkey), await redis_bytes(valkey)
    # The scrape resets it.
    await asyncio.to_thread(node.longest_lag)
    peaks = Peaks(node.pid)
    watcher = asyncio.create_task(peaks.watch())
    times, tally = await _probed(where, name, node.port, seconds)
    watcher.cancel()
    if not node.running:
        raise ProcessError("the node ended")
    return Result(
        name=name,
        attack=times,
        sink=(),
        loop=await _lag(node),
        grown=usage(node.pid).rss - peaks.start,
        peak=peaks.rss,
        keys=await redis_keys(valkey) - keys,
        redis=await redis_bytes(valkey) - memory,
        tally=tally,
        sockets=peaks.sockets,
        note=ATTACKERS[name].note(tally),
    )


async def _beside_sink(where: Site, tally: Tally, name: str, seconds: float) -> list[float]:
    """What the probe finds at an idle node while a sink takes as many bytes a second as the attacked node took."""
    rate = max(tally.bytes / tally.seconds, _LEAST_RATE)
    with _program(where, "sink", str(rate)) as output:
        port = int(await asyncio.to_thread(output.readline))
        times, _ = await _probed(where, name, port, seconds)
    return times


async def _probed(where: Site, name: str, port: int, seconds: float) -> tuple[list[float], Tally]:
    """What a probe of the node finds while an attacker attacks a port; and what that got through."""
    kind = Connects if ATTACKERS[name].bars_the_door else Publications
    async with kind((_HOST, where.node.port)) as probe:
        with _program(where, "attackers", name, str(port), str(seconds)) as output:
            async with asyncio.timeout(seconds + 2 * _PATIENCE):
                first = await asyncio.to_thread(output.readline)
                if first != READY:
                    raise ProcessError(first + output.read())
                times = await probe.run(seconds)
                rest = await asyncio.to_thread(output.read)
    try:
        return times, Tally(**json.loads(rest))
    except ValueError:
        raise ProcessError(rest) from None


def _program(where: Site, module: str, *arguments: str) -> IO[str]:
    """What it writes."""
    ours, its = os.pipe()
    with os.fdopen(its, "wb") as output:
        where.processes.start([sys.executable, "-m", f"tests.attack.{module}", *arguments], dict(os.environ), output)
    return os.fdopen(ours)


async def _lag(node: Node) -> float:
    try:
        return await asyncio.to_thread(node.longest_lag)
    except OSError:
        return math.inf
