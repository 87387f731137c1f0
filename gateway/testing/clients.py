"""A client of the native protocol in the test's own process."""

import asyncio
import itertools
import json
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from starlette.types import ASGIApp

from gateway.testing.messages import Publication, Subscribed

# Seconds that a reply may take: real time, for hooks that wait for something outside.
PATIENCE = 5.0


class Refused(Exception):
    """The gateway answered a command with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message


class Closed(Exception):
    """The gateway closed the connection, or refused it (`code` is a status of HTTP then)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Request(NamedTuple):
    """How a client opens its connection."""

    token: str
    data: Any
    headers: dict[str, str]
    cookies: dict[str, str]
    query: dict[str, str]


class _Position(NamedTuple):
    offset: int
    epoch: str


def _recovery(seen: _Position) -> dict[str, Any]:
    """The fields that ask for what came after."""
    return {"recover": True, "offset": seen.offset, "epoch": seen.epoch}


def _subscribed(reply: dict[str, Any], seen: _Position | None) -> Subscribed:
    return Subscribed(data=reply.get("data"), recovered=reply.get("recovered", False) if seen is not None else None)


class TestClient:
    """One connection. Made by `TestGateway.connect`."""

    # Not a test, though its name begins like one.
    __test__ = False

    def __init__(self, app: ASGIApp, request: Request, prefix: str = "") -> None:
        """`prefix`: the path at which the application has the gateway."""
        self._app = app
        self._path = f"{prefix}/connection/websocket"
        self._request = request
        # By channel: what the client has seen, in a channel with history; None in others.
        self._seen: dict[str, _Position | None] = {}
        # Those that the server has subscribed it to: they come back with the connection.
        self._by_server: set[str] = set()
        # Token and data of its own subscriptions.
        self._asked: dict[str, tuple[str, Any]] = {}
        self._publications: asyncio.Queue[Publication] = asyncio.Queue()
        self._unsubscribed: list[tuple[str, int]] = []
        self._begin()

    def _begin(self) -> None:
        """What one connection needs."""
        self._ids = itertools.count(1)
        # What the client sends, as ASGI messages.
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._opened = asyncio.Event()
        # Of a refusal before the connection is open.
        self._status = 0
        self._task: asyncio.Task[None] | None = None
        # The id of the connection, and what the connect hook sent.
        self.id = ""
        self.data: Any = None

    async def open(self) -> Self:
        """Connect. Raises Closed and Refused."""
        await self._open()
        await self._connect({})
        return self

    async def _open(self) -> None:
        """Open the connection. Raises Closed."""
        self._task = asyncio.create_task(self._serve())
        self._sent.put_nowait({"type": "websocket.connect"})
        opened = asyncio.ensure_future(self._opened.wait())
        await asyncio.wait((opened, self._closed, self._task), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self._task.done():
            # What the application raised says more.
            self._task.result()
        if self._closed.done():
            raise self._closed.result()

    async def _connect(self, positions: dict[str, _Position]) -> dict[str, Subscribed]:
        """Up to where it has seen channels that the server subscribed it to; what became of those it has now."""
        connect: dict[str, Any] = {"token": self._request.token, "data": self._request.data}
        connect["subs"] = {channel: _recovery(position) for channel, position in positions.items()}
        reply = await self._command("connect", {name: value for name, value in connect.items() if value})
        self.id, self.data = reply["client"], reply.get("data")
        subs: dict[str, Any] = reply.get("subs", {})
        self._by_server = set(subs)
        for channel, subscription in subs.items():
            self._began(channel, subscription)
        return {channel: _subscribed(each, positions.get(channel)) for channel, each in subs.items()}

    async def subscribe(self, channel: str, *, token: str = "", data: Any = None) -> Subscribed:
        """Subscribe; after `reconnect`, from where the client was. Raises Refused and Closed."""
        body: dict[str, Any] = {"channel": channel}
        if token:
            body["token"] = token
        if data is not None:
            body["data"] = data
        seen = self._seen.get(channel)
        if seen is not None:
            body |= _recovery(seen)
        reply = await self._command("subscribe", body)
        self._asked[channel] = token, data
        self._began(channel, reply)
        return _subscribed(reply, seen)

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe."""
        await self._command("unsubscribe", {"channel": channel})
        self._seen.pop(channel, None)

    async def publish(self, channel: str, data: Any) -> None:
        """Publish a JSON value. Raises Refused and Closed."""
        await self._command("publish", {"channel": channel, "data": data})

    async def rpc(self, method: str, data: Any = None) -> Any:
        """Call the application; its answer. Raises Refused and Closed."""
        return (await self._command("rpc", {"method": method, "data": data})).get("data")

    async def presence(self, channel: str) -> dict[str, str]:
        """Users by the ids of their connections. Raises Refused and Closed."""
        reply = await self._command("presence", {"channel": channel})
        return {client: member.get("user", "") for client, member in reply.get("presence", {}).items()}

    async def next(self, timeout: float = 1.0) -> Publication:  # noqa: ASYNC109 - as users write it
        """The next publication of any channel. Raises TimeoutError after so many seconds, and Closed."""
        waiting = asyncio.ensure_future(self._publications.get())
        await asyncio.wait((waiting, self._closed), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        if self._closed.done():
            raise self._closed.result()
        raise TimeoutError(f"no publication came within {timeout} s")

    async def closed(self, timeout: float = 1.0) -> Closed:  # noqa: ASYNC109 - as users write it
        """How the gateway closes the connection. Raises TimeoutError after so many seconds."""
        return await asyncio.wait_for(asyncio.shield(self._closed), timeout)

    @property
    def unsubscribed(self) -> list[tuple[str, int]]:
        """Subscriptions that the server has ended: channel and code, in their order."""
        return list(self._unsubscribed)

    async def drop(self) -> None:
        """Lose the connection without a word, as in a tunnel."""
        self._sent.put_nowait({"type": "websocket.disconnect", "code": 1006, "reason": ""})
        assert self._task is not None
        await asyncio.wait((self._task,), timeout=PATIENCE)

    async def reconnect(self) -> dict[str, Subscribed]:
        """Connect again, after `drop` or a close, and subscribe to the same channels; what that said, by channel."""
        await self.drop()
        left = {channel: self._seen.pop(channel, None) for channel in self._by_server}
        by_server = {channel: seen for channel, seen in left.items() if seen is not None}
        asked = {channel: self._asked[channel] for channel in self._seen}
        self._begin()
        await self._open()
        found = await self._connect(by_server)
        for channel, (token, data) in asked.items():
            if channel not in found:
                found[channel] = await self.subscribe(channel, token=token, data=data)
        return found

    def _began(self, channel: str, reply: dict[str, Any]) -> None:
        """A subscription stands; what was missed comes with it."""
        has_history = reply.get("recoverable") or reply.get("positioned")
        self._seen[channel] = _Position(reply.get("offset", 0), reply.get("epoch", "")) if has_history else None
        for publication in reply.get("publications", ()):
            self._got(channel, publication)

    def _got(self, channel: str, pub: dict[str, Any]) -> None:
        seen, offset, info = self._seen.get(channel), pub.get("offset", 0), pub.get("info", {})
        if seen is not None and offset:
            self._seen[channel] = _Position(max(offset, seen.offset), seen.epoch)
        self._publications.put_nowait(
            Publication(
                channel=channel,
                data=pub.get("data"),
                user=info.get("user", ""),
                info=info.get("conn_info"),
                tags=pub.get("tags", {}),
                offset=offset,
            )
        )

    async def _command(self, name: str, body: dict[str, Any]) -> Any:
        number = next(self._ids)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._sent.put_nowait({"type": "websocket.receive", "text": json.dumps({"id": number, name: body})})
        await asyncio.wait((reply, self._closed), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        del self._replies[number]
        if not reply.done():
            if self._closed.done():
                raise self._closed.result()
            raise TimeoutError(f"no reply to {name} came within {PATIENCE} s")
        answer = reply.result()
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer[name]

    # The server's side

    async def _serve(self) -> None:
        await self._app(self._scope(), self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return await self._sent.get()

    async def _send(self, message: Any) -> None:
        match message["type"]:
            case "websocket.accept":
                self._opened.set()
            case "websocket.send":
                text = message["text"] if message.get("text") is not None else message["bytes"].decode()
                for line in text.splitlines():
                    self._line(json.loads(line))
            case "websocket.close":
                self._close(message.get("code", 1000), message.get("reason") or "")
                self._sent.put_nowait({"type": "websocket.disconnect", "code": message.get("code", 1000)})
            case "websocket.http.response.start":
                self._status = message["status"]
            case "websocket.http.response.body":
                self._close(self._status, message.get("body", b"").decode())

    def _line(self, line: dict[str, Any]) -> None:
        if not line:
            # A ping.
            self._sent.put_nowait({"type": "websocket.receive", "text": "{}"})
        elif "push" in line:
            self._push(line["push"])
        elif line["id"] in self._replies and not self._replies[line["id"]].done():
            self._replies[line["id"]].set_result(line)

    def _push(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        if "pub" in push:
            self._got(channel, push["pub"])
        elif "unsubscribe" in push:
            self._unsubscribed.append((channel, push["unsubscribe"]["code"]))
            self._seen.pop(channel, None)
        elif "subscribe" in push:
            self._by_server.add(channel)
            self._began(channel, push["subscribe"])

    def _close(self, code: int, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result(Closed(code, reason))

    def _scope(self) -> dict[str, Any]:
        headers = {"host": "testserver", **self._request.headers}
        if self._request.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self._request.cookies.items())
        query = "&".join(f"{quote(name)}={quote(value)}" for name, value in self._request.query.items())
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": self._path,
            "raw_path": self._path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("testserver", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
