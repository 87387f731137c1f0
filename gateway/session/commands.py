"""What each request does: one handler per request, chosen by its type."""

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import structs

from gateway import errors
from gateway.auth.permissions import may_publish
from gateway.channels import ChannelSpec
from gateway.control import SubscribeUser
from gateway.errors import Disconnect, RequestError
from gateway.hooks.decisions import Accepted, Undecided
from gateway.hooks.payloads import Payloads, json_of_text
from gateway.messages import (
    NO_OPTIONS,
    Call,
    Connect,
    History,
    Kind,
    Malformed,
    Pong,
    Presence,
    PresenceStats,
    Publication,
    Publish,
    PublishResult,
    Refresh,
    SubRefresh,
    Subscribe,
    Unsubscribe,
    Unsupported,
)
from gateway.session.asking import publish_question, rpc_question
from gateway.session.completion import FAILURES, Failure
from gateway.session.connecting import handle_connect, handle_extend_connection, handle_refresh
from gateway.session.inbox import ExtendConnection, ExtendSubscription, Work
from gateway.session.reading import handle_history, handle_presence, handle_presence_stats
from gateway.session.session import Session
from gateway.session.state import State
from gateway.session.subscribing import (
    handle_extend_subscription,
    handle_sub_refresh,
    handle_subscribe,
    handle_subscribe_user,
    handle_unsubscribe,
)


def run(session: Session, request: Work) -> bool:
    """Carry out one request and handle its failure; False when it has to wait and be run again."""
    try:
        return handle(session, request)
    except FAILURES as error:
        session.give_up(request, error.detach())
    except Exception:
        session.fail("request")
    return True


def handle(session: Session, request: Work) -> bool:
    """Carry out one request; False when it has to wait.

    It waits for a subscribe to the same channel, for a congested client to read, or until its user may get more.

    Raises RequestError (answered) and Disconnect (closes).
    """
    name, handler, channel = HANDLERS[type(request)]
    if session.state is not State.CONNECTED and name not in ("connect", "pong"):
        raise Disconnect(errors.BAD_COMMAND, f"{name} before connect")
    if channel:
        # The table says that the request has a channel.
        subscription = session.subs.get(request.channel or session.home)  # type: ignore[union-attr]
        if subscription is not None and not subscription.joined:
            return False
    if (session.out.is_congested or session.inbox.is_in_debt) and _may_bring_much(session, request):
        session.inbox.rest_with_user()
        return False
    session.services.metrics.commands.add(name)
    handler(session, request)
    return True


def _may_bring_much(session: Session, request: Work) -> bool:
    """Whether the answer may be large: a congested client gets it only after reading what waits."""
    if type(request) is Subscribe and request.channel and request.since is None:
        return session.services.channels.resolve(session.services.app, request.channel).latest is not None
    return type(request) in LARGE


def handle_publish(session: Session, request: Publish) -> None:
    services = session.services
    name = request.channel or session.home
    if not name:
        raise RequestError(errors.BAD_REQUEST, "publish without a channel")
    if not request.data and request.kind is Kind.JSON:
        raise RequestError(errors.BAD_REQUEST, "publish without data")
    if not session.share.publishes.take(services.scheduler.now()):
        raise RequestError(errors.TOO_MANY_REQUESTS, "too many publishes", "limits.publishes_per_second")
    spec = services.channels.resolve(services.app, name)
    asks = services.application.publish
    hook = asks.find(spec.namespace) if asks is not None else None
    verdict = may_publish(spec, session.user.name, name in session.subs, is_asked=hook is not None)
    if not verdict.allowed:
        raise RequestError(errors.PERMISSION_DENIED, verdict.rule, verdict.setting)
    payload = None
    if services.payloads is not None and spec.namespace in services.payloads:
        request, payload = _typed(services.payloads, request, spec.namespace)
    if hook is None:
        _publish(session, request, spec, UNCHANGED)
        return
    # Those behind it wait, so that the order of the client's publications stays.
    session.inbox.block(request)
    question = publish_question(session, request, name, payload)
    hook(question, session.then(request, partial(_publish, session, request, spec)))


def _typed(payloads: Payloads, request: Publish, namespace: str) -> tuple[Publish, Any]:
    """The request with JSON that fits the model of the namespace, and the value that the model makes of it."""
    if request.kind is Kind.TEXT:
        # Of a protocol that has no JSON. Subscribers of others get a value, not a string with JSON in it.
        request = structs.replace(request, kind=Kind.JSON, data=json_of_text(request.data))
    return request, payloads.decode(namespace, request.kind, request.data)


def _publish(session: Session, request: Publish, spec: ChannelSpec, accepted: Accepted | Undecided) -> None:
    services = session.services
    if isinstance(accepted, Undecided):
        if not may_publish(spec, session.user.name, spec.channel.name in session.subs).allowed:
            raise accepted.error
        accepted = UNCHANGED
    if accepted.data is not None and len(accepted.data) > services.limits.message_size:
        detail = f"the publish hook returned {len(accepted.data)} bytes"
        raise RequestError(errors.INTERNAL, detail, "limits.message_size")
    if accepted.data is not None and services.payloads is not None:
        misfit = services.payloads.find_error(spec.namespace, accepted.kind, accepted.data)
        if misfit is not None:
            raise RequestError(errors.INTERNAL, f"what the publish hook returned was refused: {misfit}")
    publication = Publication(
        spec.channel,
        request.data if accepted.data is None else accepted.data,
        request.kind if accepted.data is None else accepted.kind,
        time=int(services.scheduler.time() * 1000),
        event=request.event,
        tags=accepted.tags,
        info=session.member(spec.channel.name),
    )
    options = spec.publishing
    if accepted.skip_history:
        options = NO_OPTIONS
    if accepted.idempotency_key:
        options = structs.replace(options, idempotency_key=accepted.idempotency_key)
    published = session.then(request, partial(_published, session, request))
    services.messaging.publish(publication, options, published)


def _published(session: Session, request: Publish, outcome: PublishResult) -> None:
    session.out.say(session.codec.published(request.id))


def handle_call(session: Session, request: Call) -> None:
    asks = session.services.application.rpc
    hook = asks.find(request.event) if asks is not None else None
    failed = partial(_not_answered, session, request)
    answered = session.then(request, partial(_answered, session, request), failed)
    if asks is None:
        answered(RequestError(errors.NOT_AVAILABLE, "no rpc hook"))
    elif hook is None:
        answered(RequestError(errors.METHOD_NOT_FOUND, f"no rpc hook for {request.event!r}"))
    else:
        hook(rpc_question(session, request), answered)


def _answered(session: Session, request: Call, data: bytes) -> None:
    if request.id:
        session.out.say(session.codec.answered(request.id, data))


def _not_answered(session: Session, request: Call, error: Failure) -> None:
    if not request.id and isinstance(error, RequestError):
        # Without a reply, only closing the connection tells the client that nothing handled its call.
        error = Disconnect(errors.NO_HANDLER, str(error))
    session.give_up(request, error)


def handle_unsupported(session: Session, request: Unsupported) -> None:
    raise RequestError(errors.NOT_AVAILABLE, request.feature)


def handle_malformed(session: Session, request: Malformed) -> None:
    raise RequestError(errors.BAD_REQUEST, request.reason)


def handle_pong(session: Session, request: Pong) -> None:
    session.pong()


# What a publish is without a hook.
UNCHANGED = Accepted(None, Kind.JSON, None, "", skip_history=False)
# Requests whose answers may be large.
LARGE = {Subscribe, SubscribeUser, History, Presence}
# Request type -> (name in metrics, handler, whether it must wait while its channel is joining).
HANDLERS: dict[type[Any], tuple[str, Callable[[Session, Any], None], bool]] = {
    Connect: ("connect", handle_connect, False),
    Subscribe: ("subscribe", handle_subscribe, True),
    Unsubscribe: ("unsubscribe", handle_unsubscribe, True),
    Publish: ("publish", handle_publish, True),
    Call: ("call", handle_call, False),
    Refresh: ("refresh", handle_refresh, False),
    SubRefresh: ("sub_refresh", handle_sub_refresh, True),
    History: ("history", handle_history, True),
    Presence: ("presence", handle_presence, True),
    PresenceStats: ("presence_stats", handle_presence_stats, True),
    Pong: ("pong", handle_pong, False),
    Unsupported: ("unsupported", handle_unsupported, False),
    Malformed: ("malformed", handle_malformed, False),
    SubscribeUser: ("server_subscribe", handle_subscribe_user, True),
    ExtendConnection: ("extend", handle_extend_connection, False),
    ExtendSubscription: ("extend", handle_extend_subscription, True),
}
