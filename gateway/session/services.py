"""What all sessions of a node share. One object, so that a session holds one reference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway import errors
from gateway.channels import Channels
from gateway.config.settings import HeartbeatSettings, LimitSettings
from gateway.errors import CloseCode
from gateway.guard import Guard
from gateway.hooks.decisions import Application
from gateway.hooks.payloads import Payloads
from gateway.hub.corks import Corks
from gateway.hub.outbox import Outboxes
from gateway.log import Refusals
from gateway.metrics import Metrics
from gateway.scheduler import Scheduler
from gateway.session.inbox import Frame, Inbox, Turns, Work
from gateway.session.notes import Notes
from gateway.session.ports import ClientBook, PubSub, Verifier
from gateway.session.wheel import TimingWheel

# A session; generic, since the code that runs its requests needs the concrete type.
S = TypeVar("S")

# Only these become metric labels: backends may choose other codes.
KNOWN_CODES = frozenset(value for value in vars(errors).values() if isinstance(value, CloseCode))


@dataclass(slots=True, kw_only=True)
class SessionServices(Generic[S]):
    """The parts a session works with, and the settings that bound it."""

    app: str
    node_name: str
    clients: ClientBook[S]
    messaging: PubSub[S]
    application: Application
    channels: Channels
    verifier: Verifier
    limits: LimitSettings
    heartbeat: HeartbeatSettings
    # Whether clients without a token are let in, as anonymous.
    anonymous: bool
    wheel: TimingWheel
    scheduler: Scheduler
    # The hub's corks, pulled before every delivery.
    corks: Corks
    metrics: Metrics
    guard: Guard
    refusals: Refusals
    # None if the application does not want to hear what has ended.
    notes: Notes | None
    # How inboxes decode messages and run requests (see Shared in inbox.py).
    read: Callable[[S, Frame], Sequence[Work]]
    decode: Callable[[S, bytes, bool], Sequence[Work]]
    run: Callable[[S, Work], bool]
    # None without models of payloads.
    payloads: Payloads | None = None
    # The outboxes of connections that are congested now.
    outboxes: Outboxes = field(default_factory=Outboxes)
    # The inboxes in which requests wait.
    inboxes: set[Inbox] = field(default_factory=set)
    turns: Turns = field(init=False)
    # Open sessions that have not authenticated, and so are not clients of the node yet.
    opening: set[S] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.turns = Turns(self.scheduler)
        self.metrics.outbox_bytes.read = lambda: sum(outbox.size for outbox in self.outboxes)
        self.metrics.congested.read = lambda: len(self.outboxes)

    def apply(self, limits: LimitSettings, *, anonymous: bool) -> None:
        """Apply these settings from now on."""
        self.limits = limits
        self.anonymous = anonymous

    def expiry(self, expire_at: int) -> tuple[bool, int]:
        """(expires, ttl in seconds) of replies. A ttl of zero would read as "never", so the least is one."""
        if not expire_at:
            return False, 0
        return True, max(expire_at - int(self.scheduler.time()), 1)

    def count_close(self, code: CloseCode) -> None:
        """Count a connection closed by the gateway."""
        self.metrics.closed.add(str(code.code) if code in KNOWN_CODES else "custom")
