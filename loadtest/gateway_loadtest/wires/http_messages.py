"""HTTP/1.1 as a client speaks it: requests as bytes, and responses read from bytes as they come."""

from base64 import b64encode
from urllib.parse import unquote, urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway_loadtest.wires.contract import Request

# Bytes that bring no body, a head or trailers: the parser keeps those of a field until it ends.
LONGEST_HEAD = 64 * 1024


def encoded(request: Request) -> bytes:
    """With the headers that every request has, and the login of its URL."""
    parts = urlsplit(request.url)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "gateway-loadtest", **request.headers}
    if parts.username is not None and "Authorization" not in headers:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    if request.body:
        headers["Content-Length"] = str(len(request.body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{request.method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + request.body


class Responses:
    """Those of one connection, one after the other: status and end of the newest, and its body as it comes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        # Called by the parser, for every chunk: nothing of Python runs in between.
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)
        self._bare = 0
        # 0 until its head is there.
        self.status = 0
        self.is_complete = False

    def feed(self, data: bytes) -> bytes:
        """What of a body is in it. Raises ValueError for what is no HTTP, and for heads of more than LONGEST_HEAD."""
        self._bare += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            raise ValueError(f"no response of HTTP: {error}") from None
        pieces = self._pieces
        if pieces:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._bare = 0
            return body
        if self._bare > LONGEST_HEAD:
            raise ValueError(f"more than {LONGEST_HEAD} bytes of HTTP without a body")
        return b""

    @property
    def goes_on(self) -> bool:
        """Whether the connection may be used for another request, after the end of a response."""
        return bool(self._parser.should_keep_alive())

    # What the parser calls

    def on_message_begin(self) -> None:
        self.status = 0
        self.is_complete = False

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        # Others come before the one that counts (RFC 9110, section 15.2).
        if status >= 200:
            self.status = status

    def on_message_complete(self) -> None:
        if self.status:
            self.is_complete = True
            self._bare = 0
