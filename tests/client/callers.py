"""Either client, called in the same way by the tests."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.client import AsyncClient, Client

KINDS = ["sync", "async"]


class Caller:
    """Its methods are those of the client, and return when the answer is there."""

    def __init__(self, kind: str, url: str | None = None, key: str | None = None, **options: Any) -> None:
        self._runner = asyncio.Runner() if kind == "async" else None
        self.client: Any = (Client if self._runner is None else AsyncClient)(url, key, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        if self._runner is None:
            return method  # type: ignore[no-any-return]  # of either client
        runner = self._runner
        return lambda *args, **kwargs: runner.run(method(*args, **kwargs))

    def pages(self, *args: Any, **kwargs: Any) -> list[Any]:
        """All of `channel_pages`."""
        if self._runner is None:
            return list(self.client.channel_pages(*args, **kwargs))

        async def collected() -> list[Any]:
            return [page async for page in self.client.channel_pages(*args, **kwargs)]

        return self._runner.run(collected())

    def close(self) -> None:
        """Close the connections."""
        if self._runner is None:
            self.client.close()
        else:
            self._runner.run(self.client.aclose())

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        if self._runner is not None:
            self._runner.close()
