"""The same for tests that are no coroutines: the node runs in a thread."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from starlette.applications import Starlette

from gateway.embedding import Gateway
from gateway.hooks import Hooks
from gateway.testing.clients import Closed, TestClient
from gateway.testing.clock import ManualClock
from gateway.testing.gateways import TestGateway
from gateway.testing.messages import Publication, Subscribed

T = TypeVar("T")


class SyncTestGateway:
    """As TestGateway, with `with` in place of `async with`, and methods that return when they are done."""

    # Not a test, though its name ends like one.
    __test__ = False

    def __init__(
        self,
        settings: Mapping[str, Any] | Gateway | None = None,
        *,
        hooks: Hooks | None = None,
        clock: ManualClock | None = None,
        app: Starlette | None = None,
    ) -> None:
        self._gateway = TestGateway(settings, hooks=hooks, clock=clock, app=app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="TestGateway")

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self._gateway.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.run(self._gateway.__aexit__(*exc))
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop of the node."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def published(self) -> list[Publication]:
        """As of TestGateway."""
        return self._gateway.published

    def connect(
        self,
        user: str = "",
        *,
        token: str = "",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        channels: Sequence[str] = (),
    ) -> "SyncTestClient":
        """As of TestGateway."""
        connecting = self._gateway.connect(
            user, token=token, data=data, headers=headers, cookies=cookies, query=query, channels=channels
        )
        return SyncTestClient(self, self.run(connecting))

    def subscription_token(self, user: str, channel: str) -> str:
        """As of TestGateway."""
        return self._gateway.subscription_token(user, channel)

    @property
    def api(self) -> TestGateway:
        """Its coroutines, for `run`: `gateway.run(gateway.api.disconnect(user="ann"))`."""
        return self._gateway

    def publish(self, channel: str, data: Any) -> None:
        """Publish as a backend does. Raises RequestError."""
        self.run(self._gateway.publish(channel, data))

    def advance(self, seconds: float) -> None:
        """Let time pass on the `clock`."""
        assert self._gateway.clock is not None, "give SyncTestGateway a clock=ManualClock()"
        self.run(self._gateway.clock.advance(seconds))


class SyncTestClient:
    """As TestClient, with methods that return when they are done."""

    __test__ = False

    def __init__(self, gateway: SyncTestGateway, client: TestClient) -> None:
        self._gateway = gateway
        self._client = client

    @property
    def id(self) -> str:
        return self._client.id

    @property
    def data(self) -> Any:
        return self._client.data

    @property
    def unsubscribed(self) -> list[tuple[str, int]]:
        return self._client.unsubscribed

    def subscribe(self, channel: str, *, token: str = "", data: Any = None) -> Subscribed:
        return self._gateway.run(self._client.subscribe(channel, token=token, data=data))

    def unsubscribe(self, channel: str) -> None:
        self._gateway.run(self._client.unsubscribe(channel))

    def publish(self, channel: str, data: Any) -> None:
        self._gateway.run(self._client.publish(channel, data))

    def rpc(self, method: str, data: Any = None) -> Any:
        return self._gateway.run(self._client.rpc(method, data))

    def presence(self, channel: str) -> dict[str, str]:
        return self._gateway.run(self._client.presence(channel))

    def next(self, timeout: float = 1.0) -> Publication:
        return self._gateway.run(self._client.next(timeout))

    def closed(self, timeout: float = 1.0) -> Closed:
        return self._gateway.run(self._client.closed(timeout))

    def drop(self) -> None:
        self._gateway.run(self._client.drop())

    def reconnect(self) -> dict[str, Subscribed]:
        return self._gateway.run(self._client.reconnect())
