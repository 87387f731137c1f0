"""A node in the test's own process."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import msgspec
from starlette.applications import Starlette
from starlette.routing import Mount

from gateway.app import Composition
from gateway.broker.base import PublishDone
from gateway.config.sources import of_code
from gateway.embedding import Gateway
from gateway.hooks import Hooks
from gateway.in_process import InProcess
from gateway.messages import Kind, PublishOptions
from gateway.messages import Publication as Published
from gateway.testing.clients import Request, TestClient
from gateway.testing.clock import ManualClock, settle
from gateway.testing.messages import Publication
from gateway.tokens import connection_token, subscription_token

if TYPE_CHECKING:
    import httpx


class TestGateway(InProcess):
    """A node without sockets and without Redis. Nothing is read from the environment or from files.

    Its coroutines are the methods of the API (`publish`, `presence`, `disconnect`, ...), and raise RequestError.
    """

    # Not a test, though its name begins like one.
    __test__ = False

    def __init__(
        self,
        settings: Mapping[str, Any] | Gateway | None = None,
        *,
        hooks: Hooks | None = None,
        clock: ManualClock | None = None,
        app: Starlette | None = None,
    ) -> None:
        """`settings` by section, as in gateway.toml; or the Gateway of an application, with its settings and hooks.

        With a `clock`, time passes when the test says so. With the `app` that has mounted the Gateway, clients come
        through its middleware, and `http` calls its routes. Raises ValueError if the app has not mounted it.
        """
        self._prefix = ""
        self._app = app
        self._mounted = settings if isinstance(settings, Gateway) else None
        if app is not None:
            self._prefix = _place_of(self._mounted, app)
        if isinstance(settings, Gateway):
            hooks = hooks or settings.hooks
            settings = settings.given
        given: dict[str, Any] = {**(settings or {})}
        auth = {"hmac_secret": secrets.token_hex(32), **given.get("auth", {})}
        # Clients and channels of a test are in one process.
        given |= {"auth": auth, "redis": {}}
        self.settings = of_code(given)
        self._secret: str = auth["hmac_secret"]
        self._hooks = hooks
        if hooks is not None:
            hooks.gateway = self
        self._http: httpx.AsyncClient | None = None
        self.clock = clock
        self._stack = AsyncExitStack()
        self._clients: list[TestClient] = []
        self._composition: Composition | None = None
        # All that was published, by clients and by the application, in the order in which the broker got it.
        self.published: list[Publication] = []

    async def __aenter__(self) -> Self:
        composition = self._composition = Composition(self.settings, hooks=self._hooks, scheduler=self.clock)
        await self._stack.enter_async_context(composition.running())
        if self._mounted is not None:
            self._stack.enter_context(self._mounted.served_by(composition))
        if self._app is not None:
            self._http = await self._stack.enter_async_context(_client_of(self._app))
        publish = composition.messaging.publish

        def observed(publication: Published, options: PublishOptions, done: PublishDone) -> None:
            self.published.append(_shown(publication))
            publish(publication, options, done)

        composition.messaging.publish = observed  # type: ignore[method-assign]  # looked at, and then published
        return self

    async def __aexit__(self, *exc: object) -> None:
        for client in self._clients:
            await client.drop()
        await self._stack.aclose()

    async def connect(
        self,
        user: str = "",
        *,
        token: str = "",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        channels: Sequence[str] = (),
    ) -> TestClient:
        """A client that is connected. Raises `Refused` and `Closed`.

        With a `user`, it has a token for that user (which may name `channels`); without, it has the `token` given, or
        none. `data` is for the connect hook.
        """
        if user and not token:
            token = connection_token(self._secret, user, channels=channels, now=self._time())
        request = Request(token, data, dict(headers or {}), dict(cookies or {}), dict(query or {}))
        client = TestClient(self._app or self.composition.public, request, self._prefix)
        self._clients.append(client)
        return await client.open()

    async def lose_data(self) -> None:
        """Lose all histories, as a Redis does that restarts without its data.

        Subscribers are told of the gap (2500; a real SDK subscribes again by itself), and clients that are away come
        back without what they missed (`recovered` is False).
        """
        self.composition.lose_data()
        await settle()

    @property
    def http(self) -> "httpx.AsyncClient":
        """Calls routes of the `app`, and keeps the cookies that they set."""
        assert self._http is not None, "use `async with TestGateway(gateway, app=app)`"
        return self._http

    def subscription_token(self, user: str, channel: str) -> str:
        """A token for `subscribe`."""
        return subscription_token(self._secret, user, channel, now=self._time())

    @property
    def composition(self) -> Composition:
        """The parts of the node."""
        assert self._composition is not None, "use `async with TestGateway(...)`"
        return self._composition

    def _time(self) -> float | None:
        return self.clock.time() if self.clock is not None else None


def _place_of(gateway: Gateway | None, app: Starlette) -> str:
    """The path at which the application has mounted the gateway. Raises ValueError."""
    for route in app.routes:
        if isinstance(route, Mount) and gateway is not None and route.app is gateway:
            return route.path
    raise ValueError("app needs the Gateway that it has mounted: TestGateway(gateway, app=app)")


def _client_of(app: Starlette) -> "httpx.AsyncClient":
    import httpx

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver")


def _shown(publication: Published) -> Publication:
    data: Any = publication.data
    if publication.kind is Kind.JSON:
        data = msgspec.json.decode(publication.data)
    elif publication.kind is Kind.TEXT:
        data = publication.data.decode()
    info = publication.info
    return Publication(
        channel=publication.channel.name,
        data=data,
        user=info.user if info is not None else "",
        info=msgspec.json.decode(info.conn_info) if info is not None and info.conn_info else None,
        tags=publication.tags or {},
    )
