"""Counts what is connected, so that a node stays answerable when too much wants to be."""

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

# Descriptors for everything that is no client: Redis, listeners, files, requests of health and API.
RESERVED_DESCRIPTORS = 256
# Connections beyond the limit that are still listened to, for health checks and for a proper refusal.
OVERFLOW = 128
# Seconds between two log lines about refusals for the same reason.
LOG_INTERVAL = 5.0
# Seconds after which a refused client may try again.
RETRY_AFTER = 5
# Seconds for which a connection may stay without authenticating although others need its place: in a storm of clients
# the oldest are those that are nearly done, and a node lets some thousands a second in.
PATIENCE = 1.0
# Seconds, on average, for which a connection that is not listened to is held before it is refused, each for its own
# time: thousands that come back as soon as they are refused would fill the queue of those who are to be accepted.
HOLD = 1.0


class Refusal(NamedTuple):
    """Why no WebSocket opens: an HTTP status, and a word for the metrics, the log and the answer."""

    status: int
    reason: str
    setting: str

    @property
    def message(self) -> str:
        """For whoever is refused."""
        return f"too many connections ({self.reason})" if self.setting else f"this node is {self.reason}"


FULL = Refusal(503, "connections", "limits.connections")
UNAUTHENTICATED = Refusal(503, "unauthenticated", "limits.unauthenticated")
SHARE = Refusal(429, "unauthenticated of an address", "limits.unauthenticated_per_address")
DRAINING = Refusal(503, "draining", "")
ADDRESS = Refusal(429, "address", "limits.connections_per_address")


class AdmissionLimits(Protocol):
    """Of the section `limits` of the settings."""

    @property
    def connections(self) -> int: ...

    @property
    def unauthenticated(self) -> int: ...

    @property
    def unauthenticated_per_address(self) -> int: ...

    @property
    def connections_per_address(self) -> int: ...


class Admission:
    """Who is connected to the clients' listener, from the TCP connection on: silent ones count too.

    Those who have not authenticated have a limit, and each address a share of it. At either the oldest of them loses
    its connection to the newest, so that nobody keeps others out by being silent.
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        """Without a limit of its own the descriptor limit counts, which the server raises to its hard value.

        Connections of trusted proxies are those of many clients: they count by what the proxy says of each, once it
        did.
        """
        self.apply(limits)
        self._trusted_proxies = trusted_proxies
        self._refused = metrics.refused
        self._clock = clock
        self._lines = LogLimit(LOG_INTERVAL, clock)
        self._by_address: dict[str, int] = {}
        # Those who have not authenticated, the oldest first: all of them, and those of each address.
        self._waiting = _Waiting()
        self._waiting_at: dict[str, _Waiting] = {}
        self.total = 0
        self.clients = 0
        # Of the total, those that are held.
        self.held = 0
        # No client is let in any more.
        self.draining = False
        metrics.connections.read = lambda: self.clients
        metrics.unauthenticated.read = lambda: self.unauthenticated

    def apply(self, limits: AdmissionLimits) -> None:
        """These limits hold for those who come from now on."""
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
        """The place is that of a client at this address, and it has not authenticated."""
        place.waits_at = address
        waiting = self._waiting_at.setdefault(address, _Waiting())
        waiting[place] = None
        if self._share and len(waiting) > self._share:
            self._make_room(waiting, self._share, SHARE)

    def end_waiting(self, place: "Place") -> None:
        """It has authenticated, or is gone."""
        self._waiting.pop(place, None)
        waiting = self._waiting_at.get(place.waits_at)
        if waiting is not None:
            waiting.pop(place, None)
            if not waiting:
                del self._waiting_at[place.waits_at]

    def _make_room(self, waiting: "_Waiting", limit: int, reason: Refusal) -> None:
        """Drop the oldest until no more than the limit are left, or none that had its time.

        As many as came at once come of age at once, and come back at once: no more are dropped than the limit in each
        PATIENCE, so that nobody waits behind all of them to be accepted.
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
        """Why the newest is not even listened to: there are too many beyond a limit."""
        if self.total > self.limit + OVERFLOW:
            return FULL
        if self.unauthenticated > self._unauthenticated_limit + OVERFLOW:
            return UNAUTHENTICATED
        return SHARE if self._exceeds_share(place, OVERFLOW) else None

    def hold(self, place: "Place") -> float:
        """Seconds until one that overflows is refused, among nobody who waits; 0 where too many are held already."""
        if self.held >= self._unauthenticated_limit or self.total > self.limit // 2:
            return 0.0
        self.held += 1
        self.end_waiting(place)
        return HOLD * random.uniform(0.5, 1.5)  # noqa: S311 - jitter

    def check(self) -> Refusal | None:
        """Whether a connection that is counted already may become a WebSocket."""
        if self.draining:
            return DRAINING
        if self.total > self.limit:
            return FULL
        if self.unauthenticated > self._unauthenticated_limit:
            return UNAUTHENTICATED
        return None

    def check_share(self, place: "Place") -> Refusal | None:
        """Whether the address of a place has more that wait than its share, all of them young."""
        return SHARE if self._exceeds_share(place, 0) else None

    def _exceeds_share(self, place: "Place", overflow: int) -> bool:
        return bool(self._share) and len(self._waiting_at.get(place.waits_at, ())) > self._share + overflow

    def count_address(self, address: str) -> bool:
        """Count a client of the address; False and nothing counted when it has too many."""
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

    def refused(self, reason: str, setting: str = "", address: str = "") -> None:
        """Count a refusal, and log it unless the same was logged moments ago."""
        self._refused.add(reason)
        if (suppressed := self._lines.passes(reason)) is None:
            return
        extra: dict[str, object] = {"reason": reason, **suppressed}
        if setting:
            extra["setting"] = setting
        if address:
            extra["address"] = address
        logger.warning("connection refused", extra=extra)


class _Waiting(OrderedDict["Place", None]):
    """Those who have not authenticated, the oldest first."""

    made_room_at = -math.inf


class Place:
    """What one connection occupies. Leaving is idempotent, and so is each step."""

    __slots__ = ("_address", "_admission", "_authenticated", "_client", "_held", "_left", "drop", "since", "waits_at")

    def __init__(self, admission: Admission, since: float, drop: Callable[[], object] | None) -> None:
        self._admission = admission
        self.since = since
        # Ends the connection while it has not authenticated; None where nobody can, and afterwards.
        self.drop = drop
        # The address among whose connections it waits, empty for none.
        self.waits_at = ""
        self._authenticated = False
        self._client = False
        self._held = False
        self._left = False
        self._address = ""

    def check(self, address: str) -> Refusal | None:
        """Whether a WebSocket may open for a client at this address; from then on it counts there."""
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

    def opened(self) -> None:
        """It is a WebSocket of a client now."""
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
    """How many descriptors this process may have once it raised its limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # macOS says "unlimited" and allows OPEN_MAX at most (setrlimit(2)).
    most = 10_240 if sys.platform == "darwin" else 1 << 20
    return most if hard == resource.RLIM_INFINITY else hard


def raise_descriptor_limit() -> None:
    """Set the soft limit of this process to its hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = descriptor_limit()
    if soft == resource.RLIM_INFINITY or soft >= limit:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
