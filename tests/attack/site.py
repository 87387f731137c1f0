"""The node that is attacked: a process with the default limits, and a Valkey of its own."""

import asyncio
import os
import re
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults.processes import SERVER_SECONDS, Processes, Server, Valkey
from tests.servers import free_port

SECRET = "the secret of the attacks, longer than 32 bytes"
API_KEY = "the API key of the attacks, longer than 32 bytes"
ORIGIN = "https://example.com"
# Of a health check, and of a scrape of a node that is busy.
_POLL, _SCRAPE = 0.05, 10.0

_SETTINGS = """
listen = "127.0.0.1:{port}"
internal_listen = "127.0.0.1:{internal_port}"
redis.url = "redis://127.0.0.1:{redis_port}/0"
auth.hmac_secret = "{secret}"
api.keys = ["{api_key}"]
origins.allowed = ["{origin}"]
log.format = "json"
drain.window = 0
channels = {{ allow_subscribe = ["client"], allow_publish = ["subscriber"] }}
namespaces.kept = {{ delivery = "recoverable", allow_subscribe = ["client"], allow_history = ["client"] }}
namespaces.latest = {{ delivery = "latest", allow_subscribe = ["client"] }}
namespaces.present = {{ presence = true, allow_subscribe = ["client"] }}
"""


class Node(Server):
    """A `gateway serve`."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        super().__init__(processes, "node", folder)
        self.internal_port = free_port()

    async def start(self, gateway: Sequence[str], redis_port: int, settings: str) -> None:
        """Until it takes clients. Raises ProcessError. `gateway`: the command; `settings`: lines in addition."""
        file = self.folder / "gateway.toml"
        file.write_text(
            settings
            + _SETTINGS.format(
                port=self.port,
                internal_port=self.internal_port,
                redis_port=redis_port,
                secret=SECRET,
                api_key=API_KEY,
                origin=ORIGIN,
            )
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self._start([*gateway, "serve", "--config", str(file)], env)
        async with asyncio.timeout(SERVER_SECONDS):
            while not await asyncio.to_thread(self._is_ready):
                self._check_alive()
                await asyncio.sleep(_POLL)

    def longest_lag(self) -> float:
        """Seconds since the scrape before. Raises OSError."""
        text = self._get("/metrics")
        found = re.search(r"^gateway_event_loop_lag_max_seconds (\S+)$", text, re.M)
        assert found is not None
        return float(found[1])

    def _is_ready(self) -> bool:
        try:
            self._get("/health/ready")
        except OSError:
            return False
        return True

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.internal_port}{path}", timeout=_SCRAPE) as answer:
            text: str = answer.read().decode()
            return text


class Site(NamedTuple):
    """A node and its Valkey, and who starts processes beside them."""

    processes: Processes
    valkey: Valkey
    node: Node


@asynccontextmanager
async def site(gateway: Sequence[str], settings: str) -> AsyncIterator[Site]:
    """A fresh one; all its processes end with it. Raises ProcessError."""
    processes = Processes()
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            valkey, node = Valkey(processes, "valkey", place), Node(processes, place)
            await valkey.start()
            await node.start(gateway, valkey.port, settings)
            yield Site(processes, valkey, node)
    finally:
        processes.close()


async def redis_keys(valkey: Valkey) -> int:
    """How many there are."""
    count = await valkey.ask("DBSIZE")
    assert isinstance(count, int)
    return count


async def redis_bytes(valkey: Valkey) -> int:
    """What they take."""
    return int((await valkey.info("memory"))["used_memory"])


def socket_bytes() -> int:
    """What TCP holds in kernel buffers, of the whole machine (proc(5))."""
    found = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.M)
    return int(found[1]) * os.sysconf("SC_PAGE_SIZE") if found is not None else 0
