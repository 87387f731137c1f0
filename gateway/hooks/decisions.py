"""What sessions ask of the application, and what they learn: the port between them and whatever carries hooks out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from gateway.errors import Disconnect, RequestError
from gateway.hooks.events import DisconnectEvent, OccupiedEvent, UnsubscribeEvent, VacatedEvent
from gateway.hooks.questions import (
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from gateway.messages import Kind

# Decisions. JSON texts are empty for none; times are Unix seconds, 0 for never.


class Undecided(NamedTuple):
    """Nobody was there to decide: what the settings allow without a hook is allowed, anything else gets the error."""

    error: RequestError


class Opened(NamedTuple):
    """A channel that the server subscribes a client to."""

    info: bytes
    data: bytes


class Admitted(NamedTuple):
    """A client may connect. None: as its token says."""

    user: str | None
    info: bytes | None
    data: bytes
    expire_at: int | None
    channels: Mapping[str, Opened]
    meta: Any


class Allowed(NamedTuple):
    """A client may subscribe."""

    info: bytes
    data: bytes
    expire_at: int


class Extended(NamedTuple):
    """A connection or subscription lives on. Info None: as before."""

    expire_at: int
    info: bytes | None = None


class Accepted(NamedTuple):
    """A client may publish; data None: what it sent."""

    data: bytes | None
    kind: Kind
    tags: dict[str, str] | None
    idempotency_key: str
    skip_history: bool


Q = TypeVar("Q")
A = TypeVar("A")

Done: TypeAlias = Callable[[A | RequestError | Disconnect], None]
# Asks the application. `done` is called once, within a bounded time.
Ask: TypeAlias = Callable[[Q, Done[A]], None]


@dataclass(frozen=True, slots=True)
class Asks(Generic[Q, A]):
    """What to ask, by the namespace of the channel or the name of the method."""

    named: Mapping[str, Ask[Q, A]]
    # For all other names.
    others: Ask[Q, A] | None = None

    def find(self, name: str) -> Ask[Q, A] | None:
        """What to ask about this name; None: nothing."""
        return self.named.get(name, self.others)


@dataclass(frozen=True, slots=True)
class Application:
    """What there is to ask. By default nothing: so it is on a node without hooks, where none costs anything."""

    connect: Ask[ConnectRequest, Admitted | Undecided] | None = None
    # Whether `connect` may see cookies.
    reads_cookies: bool = False
    # Headers of the handshake, in lower case, that the other hooks get as well.
    forwarded: frozenset[bytes] = frozenset()
    refresh: Ask[RefreshRequest, Extended] | None = None
    subscribe: Asks[SubscribeRequest, Allowed | Undecided] | None = None
    sub_refresh: Asks[SubRefreshRequest, Extended] | None = None
    publish: Asks[PublishRequest, Accepted | Undecided] | None = None
    # The answer is JSON.
    rpc: Asks[RpcRequest, bytes] | None = None
    # Who is told of events.
    disconnect: Ask[DisconnectEvent, None] | None = None
    unsubscribe: Asks[UnsubscribeEvent, None] | None = None
    occupied: Asks[OccupiedEvent, None] | None = None
    vacated: Asks[VacatedEvent, None] | None = None

    @property
    def hears_ends(self) -> bool:
        """Whether it wants to be told of connections or subscriptions that have ended."""
        return self.disconnect is not None or self.unsubscribe is not None

    @property
    def hears_changes(self) -> bool:
        """Whether it wants to be told of channels that become occupied or vacated."""
        return self.occupied is not None or self.vacated is not None


NO_APPLICATION = Application()
