"""A client of the native protocol that writes down the publications it receives (Centrifuge client protocol, JSON)."""

import json
import ssl
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import click
import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidProxy, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from gateway.cli import hints
from gateway.config.target import BAD_PROXY, Target
from gateway.errors import GatewayError
from gateway.log import escape

# Seconds.
OPEN_TIMEOUT = 10.0
# The gateway pings every `ping` seconds. So many seconds later the connection counts as dead, as in SDKs.
PING_GRACE = 10.0
# Id of the connect command; those of subscribe commands follow.
CONNECT = 1
# Unsubscribe codes from here on ask the client to subscribe again.
RESUBSCRIBE = 2500


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Refused(msgspec.Struct):
    error: _Error


class _Connected(msgspec.Struct):
    ping: float = 0.0


class _Unsubscribe(msgspec.Struct):
    code: int = 0
    reason: str = ""


class _Push(msgspec.Struct):
    channel: str = ""
    pub: dict[str, Any] | None = None
    unsubscribe: _Unsubscribe | None = None


class _Subscribed(msgspec.Struct):
    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: list[dict[str, Any]] = []


class _Reply(msgspec.Struct):
    id: int = 0
    error: _Error | None = None
    connect: _Connected | None = None
    subscribe: _Subscribed | None = None
    push: _Push | None = None


class Follower:
    """One connection, subscribed to some channels."""

    def __init__(
        self,
        channels: Iterable[str],
        token: str,
        grant: Callable[[str], str],
        write: Callable[[str], None],
        count: int | None = None,
        *,
        own: bool = False,
    ) -> None:
        """`token` is the connection token, `grant` makes a subscription token for a channel; empty texts are no tokens.

        `write` gets a line for each publication; `follow` ends after `count` of them. `own`: the tokens were made by
        this command.
        """
        self._channels = list(dict.fromkeys(channels))
        self._token = token
        self._grant = grant
        self._write = write
        self._left = count
        self._own = own
        self._is_connected = False
        # Channel of each subscribe command, by its id.
        self._asked: dict[int, str] = {}
        # Epoch and offset up to which everything was printed, by channel.
        self._positions: dict[str, tuple[str, int]] = {}
        self._patience = OPEN_TIMEOUT

    def follow(self, target: Target) -> None:
        """Returns when enough was received. Raises GatewayError."""
        try:
            with _connecting(target) as connection:
                try:
                    connection.send("\n".join(self._opening()))
                    while self._left is None or self._left > 0:
                        self._handle(connection, connection.recv(timeout=self._patience))
                finally:
                    # After an exception, such as Ctrl-C, the block would close with an internal error (1011).
                    connection.close()
        except ConnectionClosed as error:
            reason = f"{error.rcvd.code} {error.rcvd.reason}" if error.rcvd else "without a word"
            hint = self._hint_of_close(error)
            raise _failure(f"{target.name} closed the connection: {escape(reason)}", hint) from error
        except TimeoutError as error:
            hint = "" if self._is_connected else hints.ANOTHER_URL
            raise _failure(f"nothing was heard from {target.name} for {self._patience:g} s", hint) from error
        except InvalidStatus as error:
            raise _failure(f"{target.name} refused the connection: {_refusal(error)}", hints.of_path(target)) from error
        except (OSError, InvalidHandshake) as error:
            hint = hints.of_silence(target) if isinstance(error, InvalidMessage) else hints.of_failure(target, error)
            raise _failure(f"cannot connect to {target.name}: {escape(str(error))}", hint) from error

    def _hint_of_close(self, error: ConnectionClosed) -> str:
        if error.rcvd is None or self._is_connected:
            return ""
        return hints.of_close(error.rcvd.code, token=self._token, own=self._own, channel=self._channels[0])

    def _opening(self) -> list[str]:
        connect = {"token": self._token} if self._token else {}
        return [
            json.dumps({"id": CONNECT, "connect": {**connect, "name": "gateway"}}),
            *(self._subscribe(channel) for channel in self._channels),
        ]

    def _subscribe(self, channel: str) -> str:
        id = CONNECT + 1 + len(self._asked)
        self._asked[id] = channel
        body: dict[str, Any] = {"channel": channel}
        if token := self._grant(channel):
            body["token"] = token
        if channel in self._positions:
            epoch, offset = self._positions[channel]
            body |= {"recover": True, "epoch": epoch, "offset": offset}
        return json.dumps({"id": id, "subscribe": body})

    def _handle(self, connection: ClientConnection, frame: str | bytes) -> None:
        for line in frame.split("\n") if isinstance(frame, str) else frame.split(b"\n"):
            try:
                reply = msgspec.json.decode(line, type=_Reply)
            except (msgspec.DecodeError, RecursionError) as error:
                raise GatewayError("the answer is not in the native protocol: is this a gateway?") from error
            if reply.push is not None:
                self._handle_push(connection, reply.push)
            elif reply.id:
                self._handle_reply(reply)
            else:
                connection.send("{}")

    def _handle_reply(self, reply: _Reply) -> None:
        channel = self._asked.get(reply.id)
        if reply.error is not None:
            what = "connect" if channel is None else f"subscribe to {channel}"
            hint = hints.of_error(reply.error.code, channel)
            raise _failure(f"{what} refused: {reply.error.code} {escape(reply.error.message)}", hint)
        if reply.connect is not None:
            self._is_connected = True
            self._patience = reply.connect.ping + PING_GRACE
        elif channel is not None and reply.subscribe is not None:
            click.echo(f"subscribed to {channel}", err=True)
            self._handle_subscribed(channel, reply.subscribe)

    def _handle_subscribed(self, channel: str, result: _Subscribed) -> None:
        if result.was_recovering and not result.recovered:
            click.echo(f"publications of {channel} are missing here: they are no longer in the history", err=True)
        if result.recoverable:
            self._positions[channel] = (result.epoch, result.offset)
        for publication in result.publications:
            self._print(channel, publication)

    def _print(self, channel: str, publication: dict[str, Any]) -> None:
        if self._left is not None:
            if not self._left:
                return
            self._left -= 1
        if channel in self._positions:
            epoch, offset = self._positions[channel]
            self._positions[channel] = (epoch, publication.get("offset", offset))
        self._write(_printable({"channel": channel, **publication}))

    def _handle_push(self, connection: ClientConnection, push: _Push) -> None:
        if push.pub is not None:
            self._print(push.channel, push.pub)
        elif push.unsubscribe is not None:
            reason = f"{push.unsubscribe.code} {escape(push.unsubscribe.reason)}"
            if push.unsubscribe.code < RESUBSCRIBE:
                raise GatewayError(f"the gateway ended the subscription to {escape(push.channel)}: {reason}")
            if push.channel not in self._positions:
                click.echo(f"publications of {escape(push.channel)} may be missing here: {reason}", err=True)
            connection.send(self._subscribe(push.channel))


def _connecting(target: Target) -> AbstractContextManager[ClientConnection]:
    """Raises GatewayError, OSError, InvalidHandshake."""
    url = target.websocket("/connection/websocket")
    # The gateway's own pings show that the connection is alive; one frame may hold many publications.
    options: dict[str, Any] = {
        "open_timeout": OPEN_TIMEOUT,
        "close_timeout": 1.0,
        "ping_interval": None,
        "max_size": None,
        "ssl": ssl.create_default_context() if target.secure else None,
    }
    connection: AbstractContextManager[ClientConnection]
    if target.socket:
        connection = unix_connect(target.socket, url, **options)
    else:
        try:
            connection = connect(url, proxy=None if target.is_loopback else True, **options)
        except ssl.SSLError:
            # A certificate that is not trusted is a ValueError too.
            raise
        except (InvalidProxy, ValueError):
            raise GatewayError(BAD_PROXY) from None
    return connection


def _failure(text: str, hint: str = "") -> GatewayError:
    return GatewayError(f"{text}\n{hint}" if hint else text)


def _refusal(error: InvalidStatus) -> str:
    """The status of an answer that is no handshake, and the reason if the answer is a gateway's."""
    status = error.response.status_code
    try:
        refused = msgspec.json.decode(error.response.body or b"", type=_Refused)
    except (msgspec.DecodeError, RecursionError):
        return f"{status}, and not as a gateway does"
    return f"{status} {escape(refused.error.message)}"


def _printable(publication: dict[str, Any]) -> str:
    """JSON in one line; characters that are not printable (terminal control) become JSON escapes."""
    text = json.dumps(publication, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
