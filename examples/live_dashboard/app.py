"""A dashboard of prices: each visitor gets the current ones at once, and then the newest twice a second at most."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

from gateway import Gateway

PAGE = Path(__file__).parent / "index.html"
gateway = Gateway(
    {
        "auth": {"anonymous": True},
        "origins": {"allowed": ["http://localhost:8000", "http://127.0.0.1:8000"]},
        "namespaces": {"prices": {"delivery": "latest", "allow_subscribe": ["anonymous"]}},
    }
)


async def publish_prices() -> None:
    """A market, ten times a second. The tag `key` says which value a publication replaces."""
    prices = {"ACME": 100.0, "BOLT": 20.0, "CORK": 5.0, "DUNE": 250.0}
    while True:
        for name in prices:
            prices[name] *= random.uniform(0.99, 1.01)  # noqa: S311 - a game, no secret
            await gateway.publish("prices:all", {"name": name, "price": round(prices[name], 2)}, tags={"key": name})
        await asyncio.sleep(0.1)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with gateway.lifespan(app), asyncio.TaskGroup() as group:
        market = group.create_task(publish_prices())
        yield
        market.cancel()


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


app = Starlette(routes=[Route("/", page), Mount("/realtime", gateway)], lifespan=lifespan)
