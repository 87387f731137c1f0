"""uvicorn's HTTP class, with limits on everything that arrives before a request is complete, and our WebSockets."""

import asyncio
import urllib.parse
from collections.abc import Sequence
from typing import Any

import httptools
from uvicorn import Config

from gateway.errors import GatewayError
from gateway.extensions import AUTHENTICATED, CONNECTIONS, DETACH
from gateway.session.transport import Connection
from gateway.transports.admission import Place, Refusal
from gateway.transports.flow import BoundedFlowControl
from gateway.transports.http_options import HttpOptions
from gateway.transports.http_stream.stream_transport import StreamTransport
from gateway.transports.responses import error_response, header_lines, refusal_headers
from gateway.transports.uvicorn_internals import HttpToolsProtocol, RequestResponseCycle, ServerState
from gateway.transports.websocket import opening
from gateway.transports.websocket.upgrade import Upgrade

# The least bytes per second at which a request body must arrive, averaged over header_timeout.
SLOWEST_BODY = 512
# A body may have ANY_CHUNKS chunks of any size; further ones must average MEAN_CHUNK bytes. A chunk costs 0.3 us,
# whatever its size: bodies in small chunks took 150 times as long as others.
ANY_CHUNKS = 512
MEAN_CHUNK = 128
# Bytes of framing per chunk: its size in up to eight digits, and two line ends.
CHUNK_OVERHEAD = 12
# Most escapes (%41) in a request target. A channel name has 255 characters; 5,000 escapes cost ten opening handshakes.
MOST_ESCAPES = 1_024
# Most requests of one connection that wait for the one before them.
MOST_PIPELINED = 16


class _Violation(GatewayError):
    """Raised by the parser's callbacks: the request is answered with this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class GatewayHttpProtocol(HttpToolsProtocol):
    """One connection for as long as it speaks HTTP: until it becomes a WebSocket, if it does.

    It limits the bytes and number of headers (431, 414), the time to send them (408), the size of a body (413) and of
    its chunks (400), and how slowly a body may arrive (408). It has at most one timer: first for the head, then for the
    body.
    """

    def __init__(
        self,
        options: HttpOptions,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._options = options
        # Its place in the admission; set before `connection_made` if the acceptor has counted it already.
        self.place: Place | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_size = 0
        self._wants_websocket = False
        # The current body: bytes so far, bytes at the last deadline check, bytes on the wire, chunks.
        self._body_size = 0
        self._body_checked = 0
        self._body_wire = 0
        self._chunks = 0
        self._violation: _Violation | None = None
        # The ASGI extensions that applications get; filled with the first request.
        self._extensions: dict[str, Any] = {}
        # The request that an application is answering; others may wait for it to finish.
        self._served: RequestResponseCycle | None = None

    # Called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A connection arrives, and has to send a request soon."""
        # The same as in uvicorn, with fewer system calls.
        self.connections.add(self)
        self.transport = transport
        self.flow: BoundedFlowControl = BoundedFlowControl(transport, self.loop)
        name = transport.get_extra_info("sockname")
        # Without the scope and flow label of IPv6; for a Unix socket the path.
        self.server = name[:2] if isinstance(name, tuple) else (str(name), None)
        peer = transport.get_extra_info("peername")
        self.client = peer[:2] if isinstance(peer, tuple) else None
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        admission = self._options.admission
        if admission is not None and self.place is None:
            self.place = admission.enter(self.client[0] if self.client else "", transport.abort)
            if (overflow := admission.overflow(self.place)) is not None:
                self._refuse_upgrade(overflow)
                self._options.on_overflow()
                return
        elif self.place is not None:
            self.place.drop = transport.abort
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._clear_deadline()
        if self.place is not None:
            self.place.leave()
        super().connection_lost(exc)
        self.flow.stop()
        self._withdraw()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests, in pieces of any size."""
        self._unset_keepalive_if_required()
        if self.parser is None or self.transport.is_closing():
            return
        if self._in_head:
            self._head_size += len(data)
        else:
            self._body_wire += len(data)
        try:
            self.parser.feed_data(data)
            self._check_sizes()
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._should_upgrade():
                self._upgrade(rest)
            else:
                self._ignore_upgrade(rest)
        except (httptools.HttpParserError, _Violation) as error:
            self._fail(self._violation or (error if isinstance(error, _Violation) else _Violation(400, "malformed")))
        else:
            # The request is not complete yet. Most arrive in one piece and need no timer.
            if self._deadline is None and (self._head_size or not self._in_head):
                self._set_deadline()
            if self.place is not None and not self.place.has_authenticated:
                self.flow.has_read(len(data))

    def _check_sizes(self) -> None:
        """Limit what the parser buffers before it calls back."""
        header_bytes = self._options.limits.header_bytes
        if self._in_head:
            if self._head_size > header_bytes:
                only_target = not self.headers and len(self.url) * 2 > self._head_size
                raise _Violation(*((414, "request line too long") if only_target else (431, "headers too big")))
        elif self._body_wire > self._body_size + CHUNK_OVERHEAD * self._chunks + header_bytes:
            # Chunk extensions and trailers (RFC 9112 section 7.1): nothing reads them.
            raise _Violation(400, "body framing too big")

    def _check_head(self) -> None:
        """Limit what a complete head announces, and demand a Host."""
        limits = self._options.limits
        # The bytes that came with the head may include some of the body: count again, without them.
        if self._head_size > limits.header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limits.header_bytes:
                self._violate(431, "headers too big")
        self._head_size = 0
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length" and int(value) > self._options.max_body:
                self._violate(413, "body too big")
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            # RFC 9112 section 3.2; what stands before us may have read another one than we would.
            self._violate(400, "exactly one Host header is needed")
        if len(self.pipeline) >= MOST_PIPELINED:
            self._violate(429, "too many pipelined requests")

    # Called by the server

    def shutdown(self) -> None:
        """The server shuts down. Connections that requests in progress detach from now on are to end too."""
        self._options.drain.start()
        super().shutdown()

    def abort(self) -> None:
        """Drop the socket at once."""
        self.transport.abort()

    # Called by the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._body_size = self._body_checked = self._body_wire = self._chunks = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        super().on_url(url)
        if len(self.url) > self._options.limits.header_bytes:
            self._violate(414, "request line too long")
        if self.url.count(b"%") > MOST_ESCAPES:
            self._violate(414, "too many escapes in the request target")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        super().on_header(name, value)
        if len(self.headers) > self._options.limits.header_count:
            self._violate(431, "too many headers")

    def on_headers_complete(self) -> None:
        """The head is complete: check what it announces before the application starts."""
        self._clear_deadline()
        self._check_head()
        if self.parser.should_upgrade():
            self._wants_websocket = opening.is_asked_for(self.headers)
            if self.parser.get_method() == b"CONNECT":
                # The only method that is an upgrade by itself; this is no proxy.
                self._violate(501, "CONNECT")
            if not self._wants_websocket:
                return
        super().on_headers_complete()
        if not self._wants_websocket:
            self._offer()
        self._in_head = False

    def on_chunk_header(self) -> None:
        """A chunk begins, possibly the last, empty one."""
        self._chunks += 1
        if self._chunks > ANY_CHUNKS + self._body_size // MEAN_CHUNK:
            self._violate(400, "chunks too small")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_size += len(body)
        if self._body_size > self._options.max_body:
            self._violate(413, "body too big")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._clear_deadline()
        self._in_head = True
        self._head_size = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    # Upgrades

    def _should_upgrade(self) -> bool:
        """Whether the request asks for a WebSocket."""
        return self._wants_websocket

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Answer the request as if it asked for no upgrade (RFC 9110 section 7.8).

        httptools skips the body of every upgrade request, and would parse it as the next request; a parser that sees
        no Upgrade header reads it. Java's HttpClient and `curl --http2` ask for h2c on every connection without TLS.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        head = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        head += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        # As in uvicorn's first parser: bytes after a request that closes the connection are no error.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join([*head, b"\r\n"]) + rest)

    def _upgrade(self, rest: bytes) -> None:
        """Hand the socket over; `rest` arrived after the request."""
        options = self._options
        self._clear_deadline()
        refusal = options.admission.check() if options.admission is not None else None
        if refusal is not None:
            self._refuse_upgrade(refusal)
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # A response to an earlier request is still being written.
            self.transport.close()
            return
        checked = opening.check(self.scope["method"], self.scope["http_version"], self.headers)
        if isinstance(checked, opening.Refused):
            options.metrics.protocol_errors.add("handshake")
            self._answer(error_response(checked.status, checked.message, [*self._default_headers, *checked.headers]))
            return
        try:
            scope = self._websocket_scope()
        except (httptools.HttpParserInvalidURLError, AttributeError):
            # httptools gives None as the path of http://host.
            self._fail(_Violation(400, "malformed"))
            return
        self._hand_over(checked, scope, rest)

    def _hand_over(self, accept_key: bytes, scope: dict[str, Any], rest: bytes) -> None:
        self._let_go()
        sockets = self._options.sockets(self.connections)
        compression = self._options.compression
        upgrade = Upgrade(
            sockets,
            self.transport,
            self.place,
            accept_key,
            self._default_headers,
            rest,
            congested=self.flow.write_paused,
            agreement=compression.agree(self.headers) if compression is not None else None,
        )
        task = self.loop.create_task(upgrade.run(self.app, scope))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _let_go(self) -> None:
        """Give up the socket, which has a new owner from now on."""
        self.connections.discard(self)
        self._clear_deadline()
        self.flow.let_go()
        # Parser and protocol refer to each other: without this only the garbage collector would free them.
        self.parser = None  # type: ignore[assignment]  # as uvicorn does in connection_lost

    # Long responses

    def _offer(self) -> None:
        """Add our extensions to the scope of the request. All requests of the connection get the same ones."""
        self.scope["extensions"] = self._extensions
        if self._extensions:
            return
        self._extensions[DETACH] = {"place": self.place, "detach": self._detach}
        self._extensions[CONNECTIONS] = {"connections": self.connections, "drain": self._options.drain}
        if self.place is not None:
            self._extensions[AUTHENTICATED] = {"authenticated": self.place.authenticated}

    def _withdraw(self) -> None:
        """Break the reference cycle between the scopes of requests and this object."""
        self._extensions.clear()
        self._served = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def _detach(self, headers: Sequence[tuple[bytes, bytes]], connection: Connection, place: Place) -> None:
        """Give the socket to the connection, for an endless response; the socket closes when the response ends.

        Requests after this one get no answer. If the socket is closed already, the connection is told nothing.
        """
        cycle = self._served
        if cycle is None or cycle.response_started or cycle.more_body:
            raise RuntimeError("only a whole request that nobody has answered can be detached")
        framed = [(b"transfer-encoding", b"chunked")] if cycle.scope["http_version"] == "1.1" else []
        lines = header_lines([*self._default_headers, *headers, *framed, (b"connection", b"close")])
        is_gone = cycle.disconnected or self.transport.is_closing()
        # Looks like a request whose client is gone, so that uvicorn leaves it alone.
        cycle.response_started = cycle.response_complete = cycle.disconnected = True
        if is_gone:
            place.leave()
            return
        self.pipeline.clear()
        # Earlier responses may have congested the socket; this protocol is then told so.
        self.transport.write(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"\r\n"]))
        stream = StreamTransport(self._options.sockets(self.connections), self.transport, connection, place)
        self._let_go()
        self._withdraw()
        connection.opened(stream)
        if self.flow.write_paused:
            stream.pause_writing()

    def _websocket_scope(self) -> dict[str, Any]:
        url = httptools.parse_url(self.url)
        path = urllib.parse.unquote(url.path.decode("ascii"))
        return {
            **self.scope,
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "scheme": "wss" if self.scheme == "https" else "ws",
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + url.path,
            "query_string": url.query or b"",
            "subprotocols": opening.offered_subprotocols(self.headers),
        }

    # Refusals

    @property
    def _default_headers(self) -> list[tuple[bytes, bytes]]:
        return self.server_state.default_headers

    def _refuse_upgrade(self, refusal: Refusal) -> None:
        assert self._options.admission is not None
        address = self.place.waits_at if self.place is not None else ""
        self._options.admission.refused(refusal.reason, refusal.setting, address)
        self._answer(
            error_response(refusal.status, refusal.message, [*self._default_headers, *refusal_headers(refusal)])
        )

    def _violate(self, status: int, reason: str) -> None:
        """Stop the parser. httptools hides exceptions raised in its callbacks, so the reason is kept."""
        self._violation = _Violation(status, reason)
        raise self._violation

    def _fail(self, violation: _Violation) -> None:
        """Count the violation, answer it unless another response is being written, and close."""
        self._violation = violation.detach()
        self._clear_deadline()
        self._options.metrics.protocol_errors.add(violation.reason)
        cycle = self.cycle
        is_own = not self._in_head and not self.pipeline
        if cycle is None or cycle.response_complete or (is_own and not cycle.response_started):
            if cycle is not None:
                # If the application still answers, it finds the connection gone.
                cycle.disconnected = True
                cycle.message_event.set()
            headers = [*self._default_headers, *self._shared(violation)]
            self._answer(error_response(violation.status, violation.reason, headers))
        else:
            self.transport.close()

    def _shared(self, violation: _Violation) -> list[tuple[bytes, bytes]]:
        """Headers that let a page read what is wrong with its body. Before the head is complete, its origin may be
        missing, or be that of the request before.
        """
        paths = self._options.shared_paths
        if paths is None or (self._in_head and violation.status != 413):
            return []
        return paths.headers(self.url, self.headers)

    def _answer(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
            self.flow.closing()

    def on_response_complete(self) -> None:
        """The application's response is written, but maybe not read yet."""
        self.timeout_keep_alive = self._options.limits.keep_alive  # type: ignore[assignment]  # for call_later
        super().on_response_complete()
        self.flow.closing()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came in time."""
        super().timeout_keep_alive_handler()
        self.flow.closing()

    # Deadlines

    def _set_deadline(self) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(self._options.limits.header_timeout, self._overdue)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        self._deadline = None
        if self._in_head:
            self._fail(_Violation(408, "head too slow"))
            return
        arrived = self._body_size - self._body_checked
        self._body_checked = self._body_size
        if self.flow.read_paused or arrived >= SLOWEST_BODY * self._options.limits.header_timeout:
            self._set_deadline()
        else:
            self._fail(_Violation(408, "body too slow"))
