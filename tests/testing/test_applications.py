"""Clients that come through an application, as a test of that application has them."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from gateway import Gateway
from gateway.hooks import ConnectRequest, ConnectResult, Denied, Hooks
from gateway.testing import Refused, SyncTestGateway, TestGateway


def made() -> tuple[Starlette, Gateway]:
    """An application with a login, whose session the connect hook reads, and a route that publishes."""
    hooks = Hooks()
    gateway = Gateway({"namespaces": {"room": {"allow_subscribe": ["client"]}}}, hooks=hooks)

    @hooks.connect
    async def who(request: ConnectRequest) -> ConnectResult:
        user = request.scope["session"].get("user")
        if user is None:
            raise Denied("log in first")
        return ConnectResult(user=user)

    async def login(request: Request) -> JSONResponse:
        request.session["user"] = request.path_params["name"]
        return JSONResponse({})

    async def say(request: Request) -> JSONResponse:
        await gateway.publish("room:cats", await request.json())
        return JSONResponse({})

    routes = [
        Route("/login/{name}", login, methods=["POST"]),
        Route("/say", say, methods=["POST"]),
        Mount("/realtime", gateway),
    ]
    app = Starlette(routes=routes, lifespan=gateway.lifespan)
    app.add_middleware(SessionMiddleware, secret_key="of this test")
    return app, gateway


def test_its_session_logs_in_and_its_routes_publish() -> None:
    app, mounted = made()

    async def scenario() -> None:
        async with TestGateway(mounted, app=app) as gateway:
            with pytest.raises(Refused, match="log in first"):
                await gateway.connect()
            await gateway.http.post("/login/ann")
            ann = await gateway.connect(cookies=dict(gateway.http.cookies))
            await ann.subscribe("room:cats")
            await gateway.http.post("/say", json="hi")
            assert (await ann.next()).data == "hi"

    for _ in range(2):
        # The application can be tested again.
        asyncio.run(scenario())


def test_without_asyncio() -> None:
    app, mounted = made()
    with SyncTestGateway(mounted, app=app) as gateway:
        gateway.run(gateway.api.http.post("/login/ann"))
        ann = gateway.connect(cookies=dict(gateway.api.http.cookies))
        ann.subscribe("room:cats")
        gateway.run(gateway.api.http.post("/say", json="hi"))
        assert ann.next().data == "hi"


def test_an_application_without_the_gateway_is_refused() -> None:
    app, _ = made()
    for settings in (Gateway(), None):
        with pytest.raises(ValueError, match="the Gateway that it has mounted"):
            TestGateway(settings, app=app)
