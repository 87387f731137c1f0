"""The opening handshake (RFC 6455 section 4.2), without I/O."""

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

# 1.3: the constant that proves that the server speaks WebSocket.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ELEMENT = re.compile(rb"[^,\s][^,]*")
_LOOKED_AT = frozenset([b"sec-websocket-version", b"sec-websocket-key", b"transfer-encoding", b"content-length"])


class Refused(NamedTuple):
    """The HTTP answer to an invalid handshake."""

    status: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def is_asked_for(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request with `Connection: upgrade` names WebSocket, maybe among others (RFC 9110 section 7.8)."""
    return any(b"websocket" in _tokens(value.lower()) for name, value in headers if name == b"upgrade")


def check(method: str, http_version: str, headers: list[tuple[bytes, bytes]]) -> bytes | Refused:
    """The `Sec-WebSocket-Accept` for a WebSocket upgrade request, or its refusal. Header names are in lower case."""
    if method != "GET" or http_version != "1.1":
        return Refused(400, "a WebSocket handshake is a GET request of HTTP/1.1")
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _LOOKED_AT:
            found.setdefault(name, []).append(value.strip())
    if found.get(b"sec-websocket-version") != [b"13"]:
        # 4.4: the answer tells the client which version is supported.
        return Refused(426, "Sec-WebSocket-Version must be 13", ((b"sec-websocket-version", b"13"),))
    keys = found.get(b"sec-websocket-key", [])
    # 11.3.1: it must not appear more than once.
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    if b"transfer-encoding" in found or found.get(b"content-length", [b"0"]) != [b"0"]:
        return Refused(400, "a WebSocket handshake has no body")
    return base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())


def offered_subprotocols(headers: list[tuple[bytes, bytes]]) -> list[str]:
    """The subprotocols that the client offers, in its order of preference (4.1)."""
    offered = [value for name, value in headers if name == b"sec-websocket-protocol"]
    return [token.decode("latin-1") for token in _tokens(b",".join(offered))]


def _tokens(value: bytes) -> list[bytes]:
    """Elements of a list (RFC 9110 section 5.6.1), of which thousands may be empty."""
    return [element.rstrip() for element in _ELEMENT.findall(value)]


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
