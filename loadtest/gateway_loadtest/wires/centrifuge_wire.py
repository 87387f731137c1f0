"""The JSON protocol of Centrifugo and of the gateway: one command, reply or push a line.

Source: the client protocol of Centrifugal Labs, https://centrifugal.dev/docs/transports/client_protocol
"""

import json
import secrets
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jwt
from jwt.warnings import InsecureKeyLengthWarning

from gateway_loadtest.wires.contract import (
    Acknowledged,
    Answer,
    Closing,
    Event,
    Failed,
    Foreign,
    Opened,
    Subscribed,
    Unsubscribed,
)

CONNECT_ID = 1
# Ids above are those of publishes, below those of subscribes.
FIRST_PUBLISH_ID = 2**20
PING = b"{}"
_PUSH = b'{"push":{"channel":"'
_PUSH_LENGTH = len(_PUSH)
# What can stand only in a push that is no publication.
_UNSUBSCRIBE = b'"unsubscribe":{'
PATH = "/connection/websocket"
# Seconds that a token is good for.
TOKEN_LIFETIME = 24 * 3600


class Centrifuge:
    """As in Wire. Where a channel is recoverable, it subscribes from where it stood."""

    __slots__ = ("_asked", "_latest", "_position", "_token")

    acknowledges = True
    confirms = True
    binary = False
    path = PATH

    def __init__(self, token: Callable[[], str]) -> None:
        """`token` makes a connection token, or is empty for anonymous clients."""
        self._token = token
        self._asked: dict[int, str] = {}
        # Of recoverable channels: offset and epoch as last answered.
        self._position: dict[str, tuple[int, str]] = {}
        # Of all that were asked for: the newest push since the last answer.
        self._latest: dict[bytes, bytes] = {}

    def url(self, target: str, channels: Sequence[str]) -> str:
        scheme, _, rest = target.partition("://")
        return target if "/" in rest.rstrip("/") else f"{scheme}://{rest.rstrip('/')}{self.path}"

    def opening(self) -> Sequence[bytes]:
        self._asked.clear()
        token = self._token()
        connect = {"token": token, "name": "gateway-loadtest"} if token else {"name": "gateway-loadtest"}
        return [_line({"id": CONNECT_ID, "connect": connect})]

    def subscribe(self, channel: str) -> Sequence[bytes]:
        number = CONNECT_ID + 1 + len(self._asked)
        self._asked[number] = channel
        self._latest.setdefault(_key(channel), b"")
        request: dict[str, Any] = {"channel": channel}
        position = self._stands(channel)
        if position is not None:
            request |= {"recover": True, "offset": position[0], "epoch": position[1]}
        return [_line({"id": number, "subscribe": request})]

    def publish(self, channel: str, payload: str, number: int) -> bytes:
        return b'{"id":%d,"publish":{"channel":%b,"data":"%b"}}' % (
            FIRST_PUBLISH_ID + number,
            json.dumps(channel).encode(),
            payload.encode(),
        )

    def received(self, frame: bytes) -> Sequence[Event]:
        if b"\n" not in frame and frame.startswith(_PUSH) and _UNSUBSCRIBE not in frame:
            # By far the most frequent: one publication.
            return self._publication(frame)
        events: list[Event] = []
        for line in frame.split(b"\n"):
            if line.startswith(_PUSH) and _UNSUBSCRIBE not in line:
                events += self._publication(line)
            elif line:
                self._control(json.loads(line), events)
        return events

    def _publication(self, push: bytes) -> Sequence[Event]:
        """The newest of a channel is kept, and read when it is needed."""
        channel = push[_PUSH_LENGTH : push.index(b'"', _PUSH_LENGTH)]
        if channel not in self._latest:
            # Of another channel, or escaped in another way.
            name = json.loads(push)["push"]["channel"]
            channel = _key(name)
            if channel not in self._latest:
                return (Foreign(name, push),)
        self._latest[channel] = push
        return ()

    def _control(self, message: Any, events: list[Event]) -> None:
        if not isinstance(message, dict):
            raise ValueError(f"a message that is no object: {message!r}")
        if message == {}:
            events.append(Answer(PING))
        elif "push" in message:
            self._push(message["push"], events)
        elif "id" in message:
            self._reply(message["id"], message, events)

    def _push(self, push: dict[str, Any], events: list[Event]) -> None:
        if "disconnect" in push:
            events.append(Closing(int(push["disconnect"]["code"]), str(push["disconnect"].get("reason", ""))))
        elif "unsubscribe" in push:
            events.append(Unsubscribed(push["channel"], f"unsubscribed {push['unsubscribe'].get('code', 0)}"))

    def _reply(self, number: int, message: dict[str, Any], events: list[Event]) -> None:
        error = message.get("error") or {}
        trouble = f"error {error.get('code')}: {error.get('message', '')}" if error else ""
        if number > FIRST_PUBLISH_ID:
            events.append(Acknowledged(number - FIRST_PUBLISH_ID, f"publish {trouble}" if trouble else ""))
        elif number == CONNECT_ID:
            events.append(Failed(f"connect {trouble}") if trouble else self._connected(message.get("connect")))
        elif number in self._asked:
            channel = self._asked[number]
            if not trouble:
                events.append(self._subscribed(channel, message.get("subscribe", {})))
            elif error.get("temporary"):
                events.append(Unsubscribed(channel, f"subscribe {trouble}"))
            else:
                events.append(Failed(f"subscribe to {channel}: {trouble}"))

    def _connected(self, reply: Any) -> Opened:
        version = reply.get("version") if isinstance(reply, dict) else ""
        return Opened(str(version or ""))

    def _subscribed(self, channel: str, reply: dict[str, Any]) -> Subscribed:
        if reply.get("recoverable"):
            offset = reply.get("offset", 0)
            if reply.get("publications"):
                offset = reply["publications"][-1]["offset"]
            self._position[channel] = (offset, reply.get("epoch", ""))
            self._latest[_key(channel)] = b""
        recovered = bool(reply.get("recovered")) if reply.get("was_recovering") else None
        return Subscribed(channel, recovered)

    def _stands(self, channel: str) -> tuple[int, str] | None:
        position = self._position.get(channel)
        latest = self._latest.get(_key(channel))
        if position is not None and latest:
            publication = json.loads(latest)["push"].get("pub", {})
            position = (publication.get("offset", position[0]), publication.get("epoch", position[1]))
            self._position[channel] = position
            self._latest[_key(channel)] = b""
        return position


def _key(channel: str) -> bytes:
    """A channel as it stands in a push."""
    return json.dumps(channel).encode()[1:-1]


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def connection_token(secret: str) -> str:
    """A JSON Web Token with HMAC (RFC 7519) for a user of its own; empty without a secret."""
    if not secret:
        return ""
    claims = {"sub": f"load-{secrets.token_hex(6)}", "exp": int(time.time()) + TOKEN_LIFETIME}
    # Whether the secret is a good one is the server's business.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        return jwt.encode(claims, secret, algorithm="HS256")
