"""The way from clients to nodes, which can be cut and led elsewhere."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.sdk import PATIENCE
from tests.clusters import ClusterNode
from tests.faults.proxy import Proxy


class Way:
    """As over a balancer that leads to one node, and to another when it is told."""

    def __init__(self, node: ClusterNode) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._proxy = Proxy(port(node))
        self._run(self._proxy.start())
        self.address = f"127.0.0.1:{self._proxy.port}"

    def _run(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(PATIENCE)

    def close_to_new(self) -> None:
        """Refuse connections from now on; those that there are stay."""
        self._proxy.refusing = True

    def cut(self) -> None:
        """Break the connections."""

        async def cut() -> None:
            self._proxy.cut()

        self._run(cut())

    def open_to(self, node: ClusterNode) -> None:
        """Let new connections pass, to this node."""
        self._proxy.target = port(node)
        self._proxy.refusing = False

    def close(self) -> None:
        self._run(self._proxy.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def port(node: ClusterNode) -> int:
    found = urlsplit(node.url).port
    assert found
    return found
