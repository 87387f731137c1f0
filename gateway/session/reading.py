"""History and presence: what a client may read of a channel. One at a time, since an answer may be large."""

from functools import partial

from gateway import errors
from gateway.auth.permissions import (
    Verdict,
    may_read_history,
    may_read_presence,
    no_history,
    no_presence,
)
from gateway.epochs import continues
from gateway.errors import ErrorCode, RequestError
from gateway.messages import (
    Channel,
    ClientInfo,
    History,
    HistoryPage,
    HistoryQuery,
    MemberCounts,
    Presence,
    PresenceStats,
    Retention,
    member_footprint,
)
from gateway.session.recovery import size
from gateway.session.session import Session


def handle_history(session: Session, request: History) -> None:
    services = session.services
    if not request.channel:
        raise RequestError(errors.BAD_REQUEST, "history without a channel")
    spec = services.channels.resolve(services.app, request.channel)
    if spec.history is None:
        raise _refused(errors.NOT_AVAILABLE, no_history(spec))
    verdict = may_read_history(spec, session.user.name, request.channel in session.subs)
    if not verdict.allowed:
        raise _refused(errors.PERMISSION_DENIED, verdict)
    most = services.limits.history
    limit = request.limit if 0 <= request.limit <= most else most
    session.inbox.block(request)
    services.messaging.read(
        spec.channel,
        spec.history,
        HistoryQuery(limit, request.since, request.reverse, services.limits.outbox // 2),
        session.then(request, partial(_history_read, session, request, spec.history)),
    )


def _history_read(session: Session, request: History, history: Retention, page: HistoryPage) -> None:
    epoch = request.since.epoch if request.since is not None else ""
    if not continues(epoch, page.top.epoch, history.meta_ttl):
        raise RequestError(errors.UNRECOVERABLE, f"the epoch is {page.top.epoch} now")
    session.inbox.rest(len(page.publications), size(page.publications))
    session.out.say(session.codec.history(request.id, page))


def handle_presence(session: Session, request: Presence) -> None:
    channel = _with_presence(session, request.channel)
    session.inbox.block(request)
    services = session.services
    read = session.then(request, partial(_members_read, session, request))
    services.messaging.members(channel, services.limits.presence, services.limits.outbox // 2, read)


def _members_read(session: Session, request: Presence, members: list[ClientInfo]) -> None:
    session.inbox.rest(len(members), sum(map(member_footprint, members)))
    session.out.say(session.codec.presence(request.id, members))


def handle_presence_stats(session: Session, request: PresenceStats) -> None:
    channel = _with_presence(session, request.channel)
    session.inbox.block(request)
    counted = session.then(request, partial(_counted, session, request))
    session.services.messaging.member_counts(channel, counted)


def _counted(session: Session, request: PresenceStats, counts: MemberCounts) -> None:
    session.out.say(session.codec.presence_stats(request.id, counts))


def _with_presence(session: Session, name: str) -> Channel:
    """The channel, if the client may read who is in it. Raises RequestError."""
    if not name:
        raise RequestError(errors.BAD_REQUEST, "presence without a channel")
    spec = session.services.channels.resolve(session.services.app, name)
    if not spec.options.presence:
        raise _refused(errors.NOT_AVAILABLE, no_presence(spec))
    verdict = may_read_presence(spec, session.user.name, name in session.subs)
    if not verdict.allowed:
        raise _refused(errors.PERMISSION_DENIED, verdict)
    return spec.channel


def _refused(error: ErrorCode, verdict: Verdict) -> RequestError:
    return RequestError(error, verdict.rule, verdict.setting)
