"""Two nodes that pass requests to each other as over Redis, without one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.config.settings import ServerSettings
from gateway.control import NodeId
from gateway.entrances.directory import Directory, Relay
from gateway.errors import OutcomeUnknown
from tests.api.site import Site, running


@contextmanager
def two_nodes(settings: ServerSettings) -> Iterator[tuple[Site, Site]]:
    with running(settings) as first, running(settings) as second:
        for here, there in ((first, second), (second, first)):
            directory_of(here)._relay = _relay(there)
            here.gateway._doors._socketio.polling._has_peers = True
        yield first, second


def directory_of(site: Site) -> Directory:
    return site.gateway._doors._directory


def _relay(there: Site) -> Relay:
    async def relay(node: NodeId, request: bytes, seconds: float) -> bytes | None:
        if node != directory_of(there)._uid:
            return None
        here = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = here.create_future()

        def take(data: bytes) -> None:
            if not answered.done():
                answered.set_result(data)

        def answer(data: bytes) -> None:
            here.call_soon_threadsafe(take, data)

        there.loop.call_soon_threadsafe(directory_of(there).on_relayed, request, answer)
        try:
            async with asyncio.timeout(seconds):
                return await answered
        except TimeoutError:
            raise OutcomeUnknown("no answer") from None

    return relay
