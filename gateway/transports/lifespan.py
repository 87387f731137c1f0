"""Starts and stops an ASGI application (the lifespan protocol), and passes its errors on."""

import asyncio
from typing import Any


class Lifespan:
    """Runs in its own task, as the protocol demands. `state` is what the application stores there for requests."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Return when the application can serve. Raises what the application raises."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.create_task(self._app(scope, self._events.get, self._answers.put))
        await self._ask("lifespan.startup")

    async def shutdown(self) -> None:
        """Return when the application is done. Raises what the application raises."""
        if self._task is not None and not self._task.done():
            await self._ask("lifespan.shutdown")
            await self._task

    async def _ask(self, event: str) -> None:
        assert self._task is not None
        self._events.put_nowait({"type": event})
        answer = asyncio.create_task(self._answers.get())
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        reply = answer.result() if answer.done() else {"type": "none"}
        answer.cancel()
        failed = reply["type"].endswith(".failed")
        if failed or self._task.done():
            # The application raises after its answer, and the exception says more.
            await self._task
        if failed:
            raise RuntimeError(reply.get("message") or f"the application failed at {event}")
