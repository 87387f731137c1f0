"""A chat in a FastAPI application: login by session cookie, rooms for members only, nothing lost on a reconnect."""

from typing import Annotated

from fastapi import FastAPI, Form, Request
from starlette.middleware.sessions import SessionMiddleware

from gateway import Gateway, Hooks
from gateway.hooks import ConnectRequest, ConnectResult, Denied, PublishRequest, SubscribeRequest

MEMBERS = {"room:cats": {"ann", "bob"}, "room:dogs": {"bob"}}
ORIGINS = ["http://localhost:8000", "http://127.0.0.1:8000"]

hooks = Hooks()
gateway = Gateway({"namespaces": {"room": {"delivery": "recoverable"}}, "origins": {"allowed": ORIGINS}}, hooks=hooks)
app = FastAPI(lifespan=gateway.lifespan)
app.add_middleware(SessionMiddleware, secret_key="change me")
app.mount("/realtime", gateway)


@app.post("/login")
async def login(request: Request, name: Annotated[str, Form()]) -> dict[str, str]:
    request.session["user"] = name
    return {"user": name}


@hooks.connect
async def who(request: ConnectRequest) -> ConnectResult:
    user = request.scope["session"].get("user")
    if user is None:
        raise Denied("log in first")
    return ConnectResult(user=user)


@hooks.subscribe("room")
@hooks.publish("room")
async def is_member(request: SubscribeRequest | PublishRequest) -> bool:
    return request.user in MEMBERS.get(request.channel, ())
