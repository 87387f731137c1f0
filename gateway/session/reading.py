"""History and presence: what a client may read of a channel. One at a time, since an answer may be large."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from gateway import errors
from gateway.auth.permissions import (
    history_setting,
    may_read_history,
    may_read_presence,
    presence_setting,
)
from gateway.epochs import continues
from gateway.errors import Disconnect, RequestError
from gateway.messages import (
    Channel,
    ClientInfo,
    History,
    HistoryPage,
    HistoryQuery,
    Presence,
    PresenceStats,
    Retention,
    member_footprint,
)
from gateway.protocols.base import Message
from gateway.session.recovery import size
from gateway.session.session import Session
from gateway.session.state import State


def handle_history(session: Session, request: History) -> None:
    services = session.services
    if not request.channel:
        raise Disconnect(errors.BAD_COMMAND, "history without a channel")
    spec = services.channels.resolve(services.app, request.channel)
    if spec.history is None:
        raise RequestError(errors.NOT_AVAILABLE, "the channel has no history", history_setting(spec))
    verdict = may_read_history(spec, session.user.name, request.channel in session.subs)
    if not verdict.allowed:
        raise RequestError(errors.PERMISSION_DENIED, verdict.rule, verdict.setting)
    most = services.limits.history
    limit = request.limit if 0 <= request.limit <= most else most
    session.inbox.block(request)
    services.messaging.read(
        spec.channel,
        spec.history,
        HistoryQuery(limit, request.since, request.reverse, services.limits.outbox // 2),
        session.then(partial(_history_read, session, request, spec.history)),
    )


def _history_read(session: Session, request: History, history: Retention, outcome: HistoryPage | RequestError) -> None:
    epoch = request.since.epoch if request.since is not None else ""
    if isinstance(outcome, HistoryPage) and not continues(epoch, outcome.top.epoch, history.meta_ttl):
        outcome = RequestError(errors.UNRECOVERABLE, f"the epoch is {outcome.top.epoch} now")
    if isinstance(outcome, HistoryPage):
        session.inbox.rest(len(outcome.publications), size(outcome.publications))
    _answer(session, request, session.codec.history, outcome)


def handle_presence(session: Session, request: Presence) -> None:
    channel = _with_presence(session, request.channel)
    session.inbox.block(request)
    services = session.services
    read = session.then(partial(_members_read, session, request))
    services.messaging.members(channel, services.limits.presence, services.limits.outbox // 2, read)


def _members_read(session: Session, request: Presence, outcome: list[ClientInfo] | RequestError) -> None:
    if isinstance(outcome, list):
        session.inbox.rest(len(outcome), sum(map(member_footprint, outcome)))
    _answer(session, request, session.codec.presence, outcome)


def handle_presence_stats(session: Session, request: PresenceStats) -> None:
    channel = _with_presence(session, request.channel)
    session.inbox.block(request)
    show = session.codec.presence_stats
    session.services.messaging.member_counts(channel, session.then(partial(_answer, session, request, show)))


def _with_presence(session: Session, name: str) -> Channel:
    """The channel, if the client may read who is in it. Raises RequestError and Disconnect."""
    if not name:
        raise Disconnect(errors.BAD_COMMAND, "presence without a channel")
    spec = session.services.channels.resolve(session.services.app, name)
    if not spec.options.presence:
        raise RequestError(errors.NOT_AVAILABLE, "the channel has no presence", presence_setting(spec))
    verdict = may_read_presence(spec, session.user.name, name in session.subs)
    if not verdict.allowed:
        raise RequestError(errors.PERMISSION_DENIED, verdict.rule, verdict.setting)
    return spec.channel


T = TypeVar("T")


def _answer(
    session: Session,
    request: History | Presence | PresenceStats,
    show: Callable[[int, T], Sequence[Message]],
    outcome: T | RequestError,
) -> None:
    """The answer to what blocked the session."""
    if session.state is not State.CONNECTED:
        return
    if isinstance(outcome, RequestError):
        session.answer(request, outcome)
    else:
        session.send(show(request.id, outcome))
    session.inbox.unblock(request)
