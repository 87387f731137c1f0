"""The HTTP endpoint to which emulated clients send their commands."""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.auth.origins import OriginPolicy
from gateway.entrances.directory import Directory
from gateway.entrances.emulation import FULL, MALFORMED, MESSAGE, TAKEN, UNKNOWN, status_of
from gateway.entrances.first_message import is_protobuf
from gateway.errors import RequestError
from gateway.extensions import AUTHENTICATED, DETACH
from gateway.protocols.protobuf_wire import Reader, Shape, blob, text
from gateway.transports.admission import Place
from gateway.transports.client_endpoint import foreign_page
from gateway.transports.cors import Header, preflight, shared_with
from gateway.transports.handshake import Handshake, Scope
from gateway.transports.http_stream.request_body import TooLarge, body_of
from gateway.transports.responses import error_body

PATH = "/emulation"

_MESSAGES = {
    MALFORMED: "the commands are not UTF-8, as JSON is",
    UNKNOWN: "no such session: connect again",
    FULL: "too much waits for this session: connect again",
}


class _Emulation(msgspec.Struct):
    """A request. `data` holds commands, one per line; `node` is not needed, since the session names it."""

    session: str
    data: str
    node: str = ""


class _Blank:
    """The same in Protobuf, which leaves empty fields out."""

    def __init__(self) -> None:
        self.node = ""
        self.session = ""
        self.data = b""


class EmulationEndpoint:
    """POST `{"session", "node", "data"}`, or the EmulationRequest of Protobuf: 204 once the session has the commands,
    whose replies are in its response.

    400 for anything else, 403 for a page that may not connect, 404 if there is no such session, 413 above the size
    limit, 503 if its node cannot be reached or takes no more. Clients connect again on 404 and from 500 on.
    """

    def __init__(self, directory: Directory, origins: OriginPolicy, message_size: int) -> None:
        """`message_size`: bytes of the commands in one request at most."""
        self._directory = directory
        self._origins = origins
        self.message_size = message_size

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request."""
        handshake = Handshake(scope, ())
        origin = handshake.origin
        if scope["method"] == "OPTIONS":
            await _answer(send, 204, preflight(self._origins, origin, "POST", "content-type"))
            return
        shared = shared_with(self._origins, origin)
        if scope["method"] != "POST":
            await _answer(send, 405, [*shared, (b"allow", b"POST, OPTIONS")], "only POST")
            return
        foreign = foreign_page(self._origins, handshake)
        if foreign is not None:
            # On plain ASGI requests have no place in the admission.
            place: Place | None = scope.get("extensions", {}).get(DETACH, {}).get("place")
            if place is not None:
                place.refused(foreign)
            await _answer(send, foreign.status, shared, foreign.detail)
            return
        status, message = await self._taken(receive, _from_protobuf if is_protobuf(handshake) else _from_json)
        if status == TAKEN and (connection := scope.get("extensions", {}).get(AUTHENTICATED)) is not None:
            # Who knows the secret of a session has authenticated.
            connection["authenticated"]()
        await _answer(send, status, shared, message)

    async def _taken(self, receive: Any, read: Callable[[bytes], tuple[str, bytes]]) -> tuple[int, str]:
        """The status of the answer, and its text."""
        try:
            # In JSON each quote takes two bytes.
            body = await body_of(receive, 2 * self.message_size)
            session, data = read(body or b"")
        except TooLarge as error:
            return 413, str(error)
        except (ValueError, IndexError, RecursionError) as error:
            return MALFORMED, f"not a request for a session: {error}"
        if len(data) > self.message_size:
            return 413, f"the commands have more than {self.message_size} bytes (limits.message_size, limits.channels)"
        try:
            status = status_of(await self._directory.ask(session, MESSAGE + data))
        except RequestError as error:
            return FULL, f"the node of the session is not reached: {error.detach().error.message}"
        return status, _MESSAGES.get(status, "")


_decode = msgspec.json.Decoder(_Emulation).decode


def _from_json(body: bytes) -> tuple[str, bytes]:
    """The session, and what is for it. Raises ValueError and RecursionError."""
    request = _decode(body)
    return request.session, request.data.encode()


# EmulationRequest of client.proto.
_EMULATION = Shape(_Blank, {1: text("node"), 2: text("session"), 3: blob("data", bytes)})


def _from_protobuf(body: bytes) -> tuple[str, bytes]:
    """As `_from_json`. Raises ValueError and IndexError."""
    request = _Blank()
    Reader(body).read(_EMULATION, request, 0, len(body))
    return request.session, request.data


async def _answer(send: Any, status: int, headers: list[Header], message: str = "") -> None:
    body = error_body(status, message) if message else b""
    if body:
        headers = [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
