"""Either publisher, called in the same way by the tests."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.publisher import AsyncPublisher, Publisher

KINDS = ["sync", "async"]


class Caller:
    """Its methods are those of the publisher, and return when the answer is there."""

    def __init__(self, kind: str, url: str | None = None, **options: Any) -> None:
        self._runner = asyncio.Runner() if kind == "async" else None
        self.publisher: Any = (Publisher if self._runner is None else AsyncPublisher)(url, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.publisher, name)
        if self._runner is None:
            return method  # type: ignore[no-any-return]  # of either publisher
        runner = self._runner
        return lambda *args, **kwargs: runner.run(method(*args, **kwargs))

    def close(self) -> None:
        """Close the connections."""
        if self._runner is None:
            self.publisher.close()
        else:
            self._runner.run(self.publisher.aclose())

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        if self._runner is not None:
            self._runner.close()
