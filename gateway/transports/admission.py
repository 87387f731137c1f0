"""Counts and limits connections, so that an overloaded node stays responsive."""

import logging
import math
import random
import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway.log import LogLimit
from gateway.metrics import Metrics
from gateway.transports.client_addresses import Network, counted_as, is_trusted

logger = logging.getLogger(__name__)

# Descriptors for everything but clients: Redis, listeners, files, health and API requests.
RESERVED_DESCRIPTORS = 256
# Connections beyond the limit that are still read from, for health checks and to send a proper refusal.
OVERFLOW = 128
# Seconds between two log lines about refusals for the same reason.
LOG_INTERVAL = 5.0
# Seconds after which a refused client may try again.
RETRY_AFTER = 5
# Seconds for which a connection may stay unauthenticated although others need its place: when many clients connect at
# once the oldest are nearly done, and a node lets some thousands a second in.
PATIENCE = 1.0
# Seconds, on average and with jitter, for which a connection that is not read from is held before it is refused:
# thousands that reconnect as soon as they are refused would fill the accept queue.
HOLD = 1.0


class Refusal(NamedTuple):
    """Why a WebSocket is refused: an HTTP status, and a word for the metrics, the log and the answer."""

    status: int
    reason: str
    setting: str
    # More for the log.
    detail: str = ""

    @property
    def message(self) -> str:
        """For the refused client."""
        return f"too many connections ({self.reason})" if self.setting else f"this node is {self.reason}"


FULL = Refusal(503, "connections", "limits.connections")
UNAUTHENTICATED = Refusal(503, "unauthenticated", "limits.unauthenticated")
SHARE = Refusal(429, "unauthenticated of an address", "limits.unauthenticated_per_address")
DRAINING = Refusal(503, "draining", "")
ADDRESS = Refusal(429, "address", "limits.connections_per_address")
# Reasons that concern one address: each address has lines of its own.
OF_ADDRESS = frozenset((SHARE.reason, ADDRESS.reason))


class AdmissionLimits(Protocol):
    """From the section `limits` of the settings."""

    @property
    def connections(self) -> int: ...

    @property
    def unauthenticated(self) -> int: ...

    @property
    def unauthenticated_per_address(self) -> int: ...

    @property
    def connections_per_address(self) -> int: ...


class Admission:
    """The connections of the client listener, counted from the TCP connection on, so silent ones count too.

    Unauthenticated connections have a limit, and each address a share of it. At either limit the oldest connection is
    dropped for the newest, so that nobody keeps others out by staying silent.
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        """Where `connections` is not set, the descriptor limit applies, which the server raises to its hard value.

        Connections from a trusted proxy belong to many clients: each counts under the address that the proxy reports,
        once it has.
        """
        self.apply(limits)
        self._trusted_proxies = trusted_proxies
        self._refused = metrics.refused
        self._clock = clock
        self._lines = LogLimit(LOG_INTERVAL, clock)
        self._by_address: dict[str, int] = {}
        # Unauthenticated connections, oldest first: all of them, and by address.
        self._waiting = _Waiting()
        self._waiting_at: dict[str, _Waiting] = {}
        self.total = 0
        self.clients = 0
        # How many of the total are held before they are refused.
        self.held = 0
        # New clients are refused.
        self.draining = False
        metrics.connections.read = lambda: self.clients
        metrics.unauthenticated.read = lambda: self.unauthenticated

    def apply(self, limits: AdmissionLimits) -> None:
        """Use these limits for connections that arrive from now on."""
        self.limit = limits.connections or max(descriptor_limit() - RESERVED_DESCRIPTORS, 1)
        self._unauthenticated_limit = limits.unauthenticated
        self._share = limits.unauthenticated_per_address
        self._address_limit = limits.connections_per_address

    @property
    def unauthenticated(self) -> int:
        """Connections that have not authenticated."""
        return len(self._waiting)

    def enter(self, peer: str = "", drop: Callable[[], object] | None = None) -> "Place":
        """A connection arrives from `peer`, empty for a Unix socket. `drop` ends it at once, without an answer."""
        self.total += 1
        place = Place(self, self._clock(), drop)
        self._waiting[place] = None
        if peer and not is_trusted(peer, self._trusted_proxies):
            self.wait_at(place, counted_as(peer))
        if len(self._waiting) > self._unauthenticated_limit:
            self._make_room(self._waiting, self._unauthenticated_limit, UNAUTHENTICATED)
        return place

    def wait_at(self, place: "Place", address: str) -> None:
        """Count the place as an unauthenticated client at this address."""
        place.waits_at = address
        waiting = self._waiting_at.setdefault(address, _Waiting())
        waiting[place] = None
        if self._share and len(waiting) > self._share:
            self._make_room(waiting, self._share, SHARE)

    def end_waiting(self, place: "Place") -> None:
        """The client has authenticated, or is gone."""
        self._waiting.pop(place, None)
        waiting = self._waiting_at.get(place.waits_at)
        if waiting is not None:
            waiting.pop(place, None)
            if not waiting:
                del self._waiting_at[place.waits_at]

    def _make_room(self, waiting: "_Waiting", limit: int, reason: Refusal) -> None:
        """Drop the oldest until the limit is met, or the remaining ones are younger than PATIENCE.

        Connections that arrived together reach PATIENCE together, and would reconnect together: at most `limit` are
        dropped per PATIENCE, so that nobody queues behind all of them to be accepted.
        """
        now, dropped = self._clock(), 0
        while len(waiting) > limit:
            oldest = next(iter(waiting))
            early = (dropped + 1) * PATIENCE > (now - waiting.made_room_at) * limit
            if early or now - oldest.since < PATIENCE or oldest.drop is None:
                break
            dropped += 1
            drop = oldest.drop
            oldest.leave()
            drop()
            self.refused(reason.reason, reason.setting, oldest.waits_at)
        if dropped:
            waiting.made_room_at = now

    def overflow(self, place: "Place") -> Refusal | None:
        """Why the newest connection is not even read from: a limit is exceeded by more than OVERFLOW."""
        if self.total > self.limit + OVERFLOW:
            return FULL
        if self.unauthenticated > self._unauthenticated_limit + OVERFLOW:
            return UNAUTHENTICATED
        return SHARE if self._exceeds_share(place, OVERFLOW) else None

    def hold(self, place: "Place") -> float:
        """Seconds to hold an overflowing connection before its refusal; 0 if too many are held.

        A held connection no longer counts as unauthenticated.
        """
        if self.held >= self._unauthenticated_limit or self.total > self.limit // 2:
            return 0.0
        self.held += 1
        self.end_waiting(place)
        return HOLD * random.uniform(0.5, 1.5)  # noqa: S311 - jitter

    def check(self) -> Refusal | None:
        """Why a connection that is already counted may not become a WebSocket; None if it may."""
        if self.draining:
            return DRAINING
        if self.total > self.limit:
            return FULL
        if self.unauthenticated > self._unauthenticated_limit:
            return UNAUTHENTICATED
        return None

    def check_share(self, place: "Place") -> Refusal | None:
        """SHARE if the address of a place is above its share, all its connections being too young to drop."""
        return SHARE if self._exceeds_share(place, 0) else None

    def _exceeds_share(self, place: "Place", overflow: int) -> bool:
        return bool(self._share) and len(self._waiting_at.get(place.waits_at, ())) > self._share + overflow

    def count_address(self, address: str) -> bool:
        """Count a client of the address; False, without counting, when it has too many."""
        count = self._by_address.get(address, 0)
        if count >= self._address_limit:
            return False
        self._by_address[address] = count + 1
        return True

    def forget_address(self, address: str) -> None:
        """A client of the address is gone."""
        count = self._by_address[address] - 1
        if count:
            self._by_address[address] = count
        else:
            del self._by_address[address]

    @property
    def limits_addresses(self) -> bool:
        """Whether clients are counted by address."""
        return self._address_limit > 0

    def refused(self, reason: str, setting: str = "", address: str = "", detail: str = "") -> None:
        """Count a refusal, and log it unless the same one was logged moments ago."""
        self._refused.add(reason)
        about = address if reason in OF_ADDRESS else detail
        if (suppressed := self._lines.passes(reason, about)) is None:
            return
        extra: dict[str, object] = {"reason": reason, **suppressed}
        if setting:
            extra["setting"] = setting
        if detail:
            extra["detail"] = detail
        if address:
            extra["address"] = address
        logger.warning("connection refused", extra=extra)


class _Waiting(OrderedDict["Place", None]):
    """Unauthenticated connections, oldest first."""

    made_room_at = -math.inf


class Place:
    """What one connection takes up in the admission. `opened`, `authenticated` and `leave` are idempotent."""

    __slots__ = ("_address", "_admission", "_authenticated", "_client", "_held", "_left", "drop", "since", "waits_at")

    def __init__(self, admission: Admission, since: float, drop: Callable[[], object] | None) -> None:
        self._admission = admission
        self.since = since
        # Ends the connection while it is unauthenticated; None afterwards, and where there is no way to.
        self.drop = drop
        # The address under which it counts as unauthenticated, empty for none.
        self.waits_at = ""
        self._authenticated = False
        self._client = False
        self._held = False
        self._left = False
        self._address = ""

    def check(self, address: str) -> Refusal | None:
        """Why a client at this address may not open a WebSocket; None if it may, and then it counts there."""
        refusal = self._admission.check()
        if refusal is None and not self._authenticated:
            if address and not self.waits_at:
                # A trusted proxy has said whose connection it is.
                self._admission.wait_at(self, counted_as(address))
            refusal = self._admission.check_share(self)
        address = counted_as(address)
        if refusal is not None or not self._admission.limits_addresses or not address or self._address or self._left:
            return refusal
        if not self._admission.count_address(address):
            return ADDRESS
        self._address = address
        return None

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal of its client, as Admission.refused does."""
        self._admission.refused(refusal.reason, refusal.setting, self.waits_at, refusal.detail)

    def opened(self) -> None:
        """The connection is a client's WebSocket or stream now."""
        if not self._client and not self._left:
            self._client = True
            self._admission.clients += 1

    @property
    def has_authenticated(self) -> bool:
        """Whether the client proved who it is, or is gone."""
        return self._authenticated

    def authenticated(self) -> None:
        """The client proved who it is."""
        if not self._authenticated and not self._left:
            self._authenticated = True
            self._admission.end_waiting(self)
            self.drop = None

    def hold(self) -> float:
        """As Admission.hold."""
        seconds = self._admission.hold(self)
        self._held = seconds > 0
        return seconds

    def leave(self) -> None:
        """The connection is gone."""
        if self._left:
            return
        self.authenticated()
        self._left = True
        self._admission.total -= 1
        if self._held:
            self._admission.held -= 1
        if self._client:
            self._admission.clients -= 1
        if self._address:
            self._admission.forget_address(self._address)


def descriptor_limit() -> int:
    """How many descriptors this process may have once it has raised its limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # macOS says "unlimited" and allows OPEN_MAX at most (setrlimit(2)).
    most = 10_240 if sys.platform == "darwin" else 1 << 20
    return most if hard == resource.RLIM_INFINITY else hard


def raise_descriptor_limit() -> None:
    """Raise the soft descriptor limit of this process to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = descriptor_limit()
    if soft == resource.RLIM_INFINITY or soft >= limit:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
