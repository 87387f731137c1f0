"""Subscribe, unsubscribe, sub_refresh; and the server's own subscribe."""

import logging
from functools import partial

from msgspec import structs

from gateway import errors
from gateway.auth.identity import Grant
from gateway.auth.permissions import is_protected, may_subscribe
from gateway.channels import ChannelSpec
from gateway.control import SubscribeUser
from gateway.errors import Disconnect, RequestError
from gateway.hooks.decisions import Allowed, Extended, Undecided
from gateway.messages import Channel, SubRefresh, Subscribe, SubscribeResult, Unsubscribe
from gateway.session.asking import sub_refresh_question, subscribe_question
from gateway.session.completion import Failure
from gateway.session.inbox import ExtendSubscription
from gateway.session.recovery import arrive, bring_in, size
from gateway.session.session import Session
from gateway.session.state import State
from gateway.session.subscription import Subscription

logger = logging.getLogger(__name__)


def handle_subscribe(session: Session, request: Subscribe) -> None:
    services = session.services
    if not request.channel:
        raise RequestError(errors.BAD_REQUEST, "subscribe without a channel")
    if request.channel in session.subs:
        if request.channel == session.home:
            # The token has already let a plain connection into its channel.
            return
        raise RequestError(errors.ALREADY_SUBSCRIBED)
    _check_limits(session)
    spec = services.channels.resolve(services.app, request.channel)
    if request.token:
        subscription = _joining(session, request, spec)
        granted = partial(_granted, session, request, spec, subscription)
        failed = partial(_give_up, session, request, subscription)
        services.verifier.subscription(request.token, session.then(request, granted, failed))
        return
    ask = services.application.subscribe
    if ask is not None and (hook := ask.find(spec.namespace)) is not None and not is_protected(spec):
        subscription = _joining(session, request, spec)
        decided = partial(_decided, session, request, spec, subscription)
        failed = partial(_give_up, session, request, subscription)
        hook(subscribe_question(session, request), session.then(request, decided, failed))
        return
    _subscribe(session, request, spec, Subscription(spec.channel, server_side=False), granted=False)


def _joining(session: Session, request: Subscribe, spec: ChannelSpec) -> Subscription:
    """A subscription that is yet to be allowed. The channel counts as joining, so that later requests for it wait."""
    session.subs[request.channel] = subscription = Subscription(spec.channel, server_side=False)
    if _may_bring_much(request, spec):
        session.inbox.block(request)
    return subscription


def _decided(
    session: Session, request: Subscribe, spec: ChannelSpec, subscription: Subscription, decision: Allowed | Undecided
) -> bool:
    """The application allows it, or the settings do."""
    if isinstance(decision, Undecided):
        if not may_subscribe(spec, session.user.name, granted=False).allowed:
            raise decision.error
        _subscribe(session, request, spec, subscription, granted=False)
        return True
    subscription.info = decision.info
    subscription.expire_at, subscription.extended = decision.expire_at, True
    _subscribe(session, request, spec, subscription, granted=True, data=decision.data)
    return True


def _check_limits(session: Session) -> None:
    """Raises RequestError if one more subscription would exceed a limit."""
    services = session.services
    if not session.share.subscribes.take(services.scheduler.now()):
        raise RequestError(errors.TOO_MANY_REQUESTS, "too many subscribes", "limits.subscribes_per_second")
    if len(session.subs) >= services.limits.channels:
        raise _too_many_channels()
    most = services.limits.channels_per_user
    if most and session.user.name and services.clients.channels(session.user) >= most:
        raise RequestError(errors.LIMIT_EXCEEDED, "too many channels of the user", "limits.channels_per_user")


def _granted(session: Session, request: Subscribe, spec: ChannelSpec, subscription: Subscription, grant: Grant) -> bool:
    _check_grant(session, request.channel, grant)
    subscription.renew(grant)
    # The token was judged after any kick.
    subscription.kicked = False
    _subscribe(session, request, spec, subscription, granted=True)
    return True


def _give_up(session: Session, request: Subscribe, subscription: Subscription, error: Failure) -> None:
    if session.subs.get(request.channel) is subscription:
        session.leave(subscription)
    session.give_up(request, error)


def _may_bring_much(request: Subscribe, spec: ChannelSpec) -> bool:
    """Whether the reply may be large: such requests block the others, even before the token is verified."""
    return request.since is not None or spec.latest is not None


def _check_grant(session: Session, channel: str, grant: Grant) -> None:
    """Raises Disconnect unless the grant is for this client and channel."""
    for name, claimed, actual in (
        ("channel", grant.channel, channel),
        ("sub", grant.user, session.user.name),
        ("client", grant.client or session.client, session.client),
    ):
        if claimed != actual:
            raise Disconnect(errors.INVALID_TOKEN, f"the subscription token's {name} is another one")


def _subscribe(
    session: Session,
    request: Subscribe,
    spec: ChannelSpec,
    subscription: Subscription,
    *,
    granted: bool,
    data: bytes = b"",
) -> None:
    """Join the channel, if its rules or what was `granted` allow it; `data` goes to the client. Raises RequestError."""
    verdict = may_subscribe(spec, session.user.name, granted)
    if not verdict.allowed:
        raise RequestError(errors.PERMISSION_DENIED, verdict.rule, verdict.setting)
    if request.delta and spec.options.delta and spec.latest is None:
        subscription.delta = session.out.encoder.delta is not None
    if _may_bring_much(request, spec):
        session.inbox.block(request)
    session.subs[request.channel] = subscription
    positioned = partial(_positioned, session, request, subscription, data)
    failed = partial(_give_up, session, request, subscription)
    bring_in(session, request, subscription, request.since, positioned, failed)


def _positioned(session: Session, request: Subscribe, subscription: Subscription, data: bytes, ready: None) -> None:
    """The subscription can join."""
    _check_kicked(subscription)
    result = arrive(session, subscription, request.since)
    if request.all_or_nothing and result.recovered is False:
        raise RequestError(errors.UNRECOVERABLE, "what was missed is not in the history any more")
    expires, ttl = session.services.expiry(0 if subscription.extended else subscription.expire_at)
    session.inbox.rest(len(result.publications), size(result.publications))
    result = structs.replace(result, expires=expires, ttl=ttl, delta=subscription.delta, data=data)
    session.widen()
    session.out.say(session.codec.subscribed(request.id, request.channel, result))
    session.join(subscription)


def _check_kicked(subscription: Subscription) -> None:
    """Raises RequestError if the user was kicked in the meantime."""
    if subscription.kicked:
        raise RequestError(errors.PERMISSION_DENIED, "the user was kicked from the channel while it subscribed")


def handle_subscribe_user(session: Session, message: SubscribeUser) -> None:
    """Subscribe the client for the server, unless it is subscribed already. Nobody waits for an answer."""
    if session.home not in ("", message.channel):
        # A plain connection has one channel: its client could not tell messages from another one apart.
        return
    if 0 < message.expire_at <= session.services.scheduler.time():
        # It expired while it waited behind other requests, or on its way to this node.
        session.log_refusal("subscribe by the server", message.channel, RequestError(errors.EXPIRED))
        return
    subscription = session.subs.get(message.channel)
    if subscription is not None:
        if subscription.server_side and subscription.opened_by is None:
            subscription.expire_at = message.expire_at
            if session.state is State.CONNECTED:
                session.reschedule()
        return
    if len(session.subs) >= session.services.limits.channels:
        session.log_refusal("subscribe by the server", message.channel, _too_many_channels())
        return
    channel = Channel(message.app, message.channel)
    subscription = Subscription(channel, server_side=True, info=message.info, expire_at=message.expire_at)
    session.subs[message.channel] = subscription
    session.inbox.block(message)
    positioned = partial(_positioned_by_server, session, subscription, message)
    failed = partial(_not_subscribed, session, subscription, message)
    bring_in(session, message, subscription, message.since, positioned, failed)


def _positioned_by_server(session: Session, subscription: Subscription, message: SubscribeUser, ready: None) -> None:
    _check_kicked(subscription)
    result = structs.replace(arrive(session, subscription, message.since), data=message.data)
    session.inbox.rest(len(result.publications), size(result.publications))
    session.widen()
    session.out.say(session.out.encoder.protocol.push_subscribe(message.channel, result))
    session.join(subscription)


def _not_subscribed(session: Session, subscription: Subscription, message: SubscribeUser, error: Failure) -> None:
    """Log the failure, as nobody waits for an answer. A Disconnect still closes the connection."""
    if isinstance(error, Disconnect):
        session.refuse(error)
        return
    logger.warning("connection %s could not be subscribed by the server: %s", session.client, error)
    if session.subs.get(message.channel) is subscription:
        session.leave(subscription)


def _too_many_channels() -> RequestError:
    return RequestError(errors.LIMIT_EXCEEDED, "too many channels", "limits.channels")


def handle_unsubscribe(session: Session, request: Unsubscribe) -> None:
    if not request.channel:
        raise RequestError(errors.BAD_REQUEST, "unsubscribe without a channel")
    subscription = session.subs.get(request.channel)
    if subscription is not None:
        session.leave(subscription)
    session.out.say(session.codec.unsubscribed(request.id))


def handle_extend_subscription(session: Session, request: ExtendSubscription) -> None:
    """The subscription is due to expire: ask the application to let it live on, or end it."""
    subscription = session.subs.get(request.channel)
    if subscription is None:
        return
    services = session.services
    failed = partial(_not_extended, session, subscription)
    try:
        spec = services.channels.resolve(services.app, request.channel)
    except RequestError as error:
        # A reload has removed the namespace since.
        failed(error.detach())
        return
    ask = services.application.sub_refresh
    hook = ask.find(spec.namespace) if ask is not None else None
    if hook is None:
        session.end_subscription(subscription, errors.UNSUBSCRIBED_EXPIRED)
        return
    extended = partial(_extended, session, subscription)
    hook(sub_refresh_question(session, request.channel), session.then(request, extended, failed))


def _extended(session: Session, subscription: Subscription, decision: Extended) -> None:
    # If it has ended meanwhile, nothing looks at it any more.
    subscription.expire_at = decision.expire_at
    if decision.info is not None:
        subscription.info = decision.info
    session.reschedule()


def _not_extended(session: Session, subscription: Subscription, error: Failure) -> None:
    """End it; a client that subscribes again makes the subscribe hook be asked again."""
    if isinstance(error, Disconnect):
        session.refuse(error)
    elif session.subs.get(subscription.channel.name) is subscription:
        session.log_refusal("extend", subscription.channel.name, error)
        session.end_subscription(subscription, errors.UNSUBSCRIBED_EXPIRED)


def handle_sub_refresh(session: Session, request: SubRefresh) -> None:
    if not request.channel:
        raise RequestError(errors.BAD_REQUEST, "sub_refresh without a channel")
    subscription = session.subs.get(request.channel)
    if subscription is None:
        raise RequestError(errors.PERMISSION_DENIED, "not subscribed")
    if subscription.server_side:
        # The client does not decide when a server-side subscription ends.
        raise RequestError(errors.BAD_REQUEST, "sub_refresh of a channel that the server subscribed it to")
    if not request.token:
        raise RequestError(errors.BAD_REQUEST, "sub_refresh without a token")
    failed = partial(_not_refreshed, session, request, subscription)
    refreshed = session.then(request, partial(_sub_refreshed, session, request, subscription), failed)
    session.services.verifier.subscription(request.token, refreshed)


def _sub_refreshed(session: Session, request: SubRefresh, subscription: Subscription, grant: Grant) -> None:
    if session.subs.get(request.channel) is not subscription:
        raise RequestError(errors.PERMISSION_DENIED, "not subscribed any more")
    _check_grant(session, request.channel, grant)
    subscription.renew(grant)
    session.reschedule()
    expires, ttl = session.services.expiry(grant.expire_at)
    session.out.say(session.codec.sub_refreshed(request.id, SubscribeResult(expires=expires, ttl=ttl)))


def _not_refreshed(session: Session, request: SubRefresh, subscription: Subscription, error: Failure) -> None:
    if session.subs.get(request.channel) is not subscription:
        error = RequestError(errors.PERMISSION_DENIED, "not subscribed any more")
    elif isinstance(error, RequestError) and not error.error.temporary:
        expired = error.error == errors.TOKEN_EXPIRED
        error = RequestError(errors.EXPIRED) if expired else Disconnect(errors.INVALID_TOKEN, str(error))
    session.give_up(request, error)
