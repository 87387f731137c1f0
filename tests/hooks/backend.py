"""A backend with the rules of `test_nodes`, asked over HTTP: an ASGI application on a server of its own."""

import asyncio
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SECRET = "what gateway and backend share, 32 bytes"
KINDS = ("connect", "subscribe", "publish", "rpc")
EVENTS = ("disconnect", "unsubscribe", "occupied", "vacated")
SESSIONS = {"s-ann": "ann", "s-bob": "bob", "s-slow": "slow"}
DENIED = {"error": {"code": 103, "message": "permission denied"}}


def is_signed(header: str, body: bytes) -> bool:
    """As docs/hooks-http.md describes it."""
    time, _, given = header.partition(",")
    expected = hmac.new(SECRET.encode(), time.removeprefix("t=").encode() + b"." + body, hashlib.sha256)
    return hmac.compare_digest(given, f"v1={expected.hexdigest()}")


async def answer(request: Request) -> Response:
    body = await request.body()
    if not is_signed(request.headers.get("X-Gateway-Signature", ""), body):
        return Response(status_code=401)
    asked = json.loads(body)
    kind, session = request.url.path.removeprefix("/"), request.cookies.get("session", "")
    if kind == "connect":
        return JSONResponse(connect(asked, session))
    # The cookies of the handshake come with every question.
    assert asked["meta"] == [asked["user"] * 2, session]
    if kind == "rpc":
        return rpc(asked)
    return JSONResponse(subscribe(asked) if kind == "subscribe" else await publish(asked))


def hearing(heard: "SimpleQueue[tuple[str, dict[str, Any]]]") -> Callable[[Request], Awaitable[Response]]:
    """Told of events; it fails at the first."""
    failing = ["unsubscribe"]

    async def hear(request: Request) -> Response:
        body = await request.body()
        kind = request.url.path.removeprefix("/")
        if kind in failing:
            failing.remove(kind)
            return Response(status_code=500)
        assert is_signed(request.headers.get("X-Gateway-Signature", ""), body)
        assert "cookie" not in request.headers
        told = json.loads(body)
        heard.put((kind, {**told, "time": told["time_ms"]}))
        return Response(status_code=204)

    return hear


def connect(asked: dict[str, Any], session: str) -> dict[str, Any]:
    if session == "s-banned":
        return {"disconnect": {"code": 4501, "reason": "banned"}}
    user = asked.get("user") or SESSIONS.get(session)
    if not user:
        return {"error": {"code": 103, "message": "log in first"}}
    info, data = {"name": user.title()}, {"at": asked["address"]}
    return {
        "result": {"user": user, "info": info, "data": data, "channels": ["lobby:all"], "meta": [user * 2, session]}
    }


def subscribe(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["channel"] != "room:1":
        return DENIED
    return {"result": {"info": {"role": "member"}, "data": {"topic": "hooks"}}}


async def publish(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["user"] == "slow":
        await asyncio.sleep(3600)
    if asked["data"] == "shout":
        by = {"json": "centrifuge"}.get(asked["protocol"], asked["protocol"])
        return {"result": {"data": {"text": "SHOUT", "by": by}, "tags": {"loud": "yes"}}}
    return DENIED if asked["data"] == "spam" else {"result": {}}


def rpc(asked: dict[str, Any]) -> Response:
    if asked["method"] == "crash":
        return Response(status_code=500)
    if asked["method"] != "whoami":
        return JSONResponse({"error": {"code": 104, "message": "method not found"}})
    data = {"user": asked["user"], "transport": asked["transport"], "said": asked.get("data")}
    return JSONResponse({"result": {"data": data}})


@contextmanager
def backend(heard: "SimpleQueue[tuple[str, dict[str, Any]]]") -> Iterator[dict[str, Any]]:
    """The settings that ask it (`hooks.http`). `heard` gets the events that it is told of."""
    hear = hearing(heard)
    application = Starlette(
        routes=[
            *(Route(f"/{kind}", answer, methods=["POST"]) for kind in KINDS),
            *(Route(f"/{kind}", hear, methods=["POST"]) for kind in EVENTS),
        ]
    )
    config = uvicorn.Config(application, log_config=None, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = "http://{}:{}".format(*listener.getsockname())
        try:
            yield {
                **{kind: f"{address}/{kind}" for kind in KINDS + EVENTS},
                "namespaces": ["room"],
                "headers": ["Cookie"],
                "secret": SECRET,
            }
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()
