"""What all connections of a listener share, whether HTTP or WebSocket."""

from collections.abc import Callable
from typing import Any, Protocol

from gateway.metrics import Metrics
from gateway.transports.admission import Admission
from gateway.transports.cors import SharedPaths
from gateway.transports.drain import Drain
from gateway.transports.socket_transport import SocketOptions, SocketTransport
from gateway.transports.websocket.compression import Compression

# Most bytes of a body, where no other limit is given.
LARGEST_BODY = 4 * 1024 * 1024


class HttpLimits(Protocol):
    """From the section `limits` of the settings."""

    @property
    def header_bytes(self) -> int: ...

    @property
    def header_count(self) -> int: ...

    @property
    def header_timeout(self) -> float: ...

    @property
    def keep_alive(self) -> float: ...

    @property
    def frame_size(self) -> int: ...

    @property
    def fragments(self) -> int: ...


class HttpOptions:
    """Limits, and where connections are counted, drained and kept."""

    __slots__ = (
        "_sockets",
        "admission",
        "compression",
        "drain",
        "keeping",
        "limits",
        "max_body",
        "metrics",
        "on_overflow",
        "shared_paths",
    )

    def __init__(
        self,
        limits: HttpLimits,
        *,
        drain: Drain,
        metrics: Metrics,
        admission: Admission | None = None,
        max_body: int = LARGEST_BODY,
        compression: Compression | None = None,
        shared_paths: SharedPaths | None = None,
    ) -> None:
        """Without `admission` connections are not counted: that is for listeners that clients cannot reach.

        Without `compression` no WebSocket is compressed. `shared_paths`: where pages of other origins may read why a
        body was refused.
        """
        self.shared_paths = shared_paths
        self.compression = compression
        self.limits = limits
        self.drain = drain
        self.metrics = metrics
        self.admission = admission
        self.max_body = max_body
        # Called when a connection is not even read from: many more may be waiting behind it.
        self.on_overflow: Callable[[], object] = lambda: None
        # Detached connections that hold a large part of a message, or bytes that their client has not read.
        self.keeping: set[SocketTransport] = set()
        self._sockets: SocketOptions | None = None

    def apply(self, limits: HttpLimits) -> None:
        """Use these limits from now on. Detached connections that are already open keep theirs."""
        self.limits = limits
        self._sockets = None

    def sockets(self, connections: set[Any]) -> SocketOptions:
        """What all detached connections of the server with this set of connections share."""
        if self._sockets is None or self._sockets.connections is not connections:
            self._sockets = SocketOptions(
                connections=connections,
                drain=self.drain,
                protocol_errors=self.metrics.protocol_errors,
                message_size=self.limits.frame_size,
                fragments=self.limits.fragments,
                keeping=self.keeping,
            )
        return self._sockets
