"""Complete HTTP/1.1 responses to requests that never reach an application."""

import json
from collections.abc import Iterable
from http import HTTPStatus

from gateway.transports.admission import RETRY_AFTER, Refusal

Headers = Iterable[tuple[bytes, bytes]]


def response(status: int, headers: Headers, body: bytes = b"") -> bytes:
    """A response after which the connection closes. Raises ValueError for headers with line breaks."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode(), *header_lines(headers)]
    if status not in (101, 204, 304):
        lines.append(b"content-length: %d" % len(body))
    if status != 101:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def header_lines(headers: Headers) -> list[bytes]:
    """Headers as written on the wire, without the line ends. Raises ValueError as `response` does."""
    lines = [name + b": " + value for name, value in headers]
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError("a header must not contain a line break")
    return lines


def error_response(status: int, message: str, headers: Headers = ()) -> bytes:
    """A refusal in JSON."""
    return response(status, [*headers, (b"content-type", b"application/json")], error_body(status, message))


def error_body(status: int, message: str) -> bytes:
    """`{"error": {"code", "message"}}`, as the HTTP API answers."""
    return json.dumps({"error": {"code": status, "message": message}}, separators=(",", ":")).encode()


def refusal_headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """Tells the client when to come back."""
    return [(b"retry-after", b"%d" % RETRY_AFTER)] if refusal.status in (429, 503) else []
