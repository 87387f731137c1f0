"""python-socketio with its Redis manager, to be served by uvicorn. REDIS_URL in the environment."""

import os

import socketio  # type: ignore[import-untyped,import-not-found,unused-ignore]  # of this peer's own environment

server = socketio.AsyncServer(
    async_mode="asgi",
    transports=["websocket"],
    client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]),
    http_compression=False,
)
app = socketio.ASGIApp(server)


@server.event  # type: ignore[misc,untyped-decorator,unused-ignore]  # untyped upstream
async def subscribe(sid: str, channel: str) -> None:
    await server.enter_room(sid, channel)


@server.event  # type: ignore[misc,untyped-decorator,unused-ignore]  # untyped upstream
async def publish(sid: str, channel: str, text: str) -> None:
    await server.emit("message", text, room=channel)
