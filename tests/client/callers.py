"""Either client, called in the same way by the tests."""

from typing import Any

from gateway.client import AsyncClient, Client
from tests import callers


class Caller(callers.Caller):
    def __init__(self, kind: str, url: str | None = None, key: str | None = None, **options: Any) -> None:
        runner = callers.runner_of(kind)
        super().__init__((Client if runner is None else AsyncClient)(url, key, **options), runner)

    def pages(self, *args: Any, **kwargs: Any) -> list[Any]:
        """All of `channel_pages`."""
        if self.runner is None:
            return list(self.made.channel_pages(*args, **kwargs))

        async def collected() -> list[Any]:
            return [page async for page in self.made.channel_pages(*args, **kwargs)]

        return self.runner.run(collected())
