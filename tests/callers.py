"""Objects that there are in two kinds, for threads and for asyncio, called in the same way by the tests."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

KINDS = ["sync", "async"]


class Caller:
    """Its methods are those of what it was made with, and return when the answer is there."""

    def __init__(self, made: Any, runner: asyncio.Runner | None) -> None:
        """`runner` runs the methods; None for those that are no coroutines."""
        self.made = made
        self.runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method, runner = getattr(self.made, name), self.runner
        if runner is None:
            return method  # type: ignore[no-any-return]  # of either kind
        return lambda *args, **kwargs: runner.run(method(*args, **kwargs))

    def close(self) -> None:
        """Close the connections."""
        if self.runner is None:
            self.made.close()
        else:
            self.runner.run(self.made.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        if self.runner is not None:
            self.runner.close()


def runner_of(kind: str) -> asyncio.Runner | None:
    """None for "sync"."""
    return asyncio.Runner() if kind == "async" else None
