"""Subscribe, unsubscribe, sub_refresh."""

from functools import partial

from gateway import errors
from gateway.auth.permissions import Verdict, may_subscribe
from gateway.auth.tokens import Grant
from gateway.channels import ChannelSpec
from gateway.errors import Disconnect, RequestError
from gateway.messages import SubRefresh, Subscribe, SubscribeResult, Unsubscribe
from gateway.session.session import Session, State
from gateway.session.subscription import Subscription


def handle_subscribe(session: Session, request: Subscribe) -> None:
    services = session.services
    if not request.channel:
        raise Disconnect(errors.BAD_COMMAND, "subscribe without a channel")
    if request.channel in session.subs:
        raise RequestError(errors.ALREADY_SUBSCRIBED)
    if len(session.subs) >= services.limits.channels:
        session.log_refusal(request.channel, "subscribe", Verdict(False, "too many channels", "limits.channels"))
        raise RequestError(errors.LIMIT_EXCEEDED)
    spec = services.channels.resolve(services.app, request.channel)
    if request.token:
        # The channel counts as joining meanwhile, so that nothing overtakes.
        subscription = Subscription(spec.channel, server_side=False)
        session.subs[request.channel] = subscription
        services.verifier.subscription(request.token, partial(_granted, session, request, spec, subscription))
        return
    _subscribe(session, request, spec, Subscription(spec.channel, server_side=False), granted=False)


def _granted(
    session: Session,
    request: Subscribe,
    spec: ChannelSpec,
    subscription: Subscription,
    outcome: Grant | RequestError | Disconnect,
) -> None:
    if session.subs.get(request.channel) is not subscription:
        return
    del session.subs[request.channel]
    try:
        grant = _check_grant(session, request.channel, outcome)
        subscription.info = grant.info
        subscription.expire_at = grant.expire_at
        subscription.jti = grant.jti
        _subscribe(session, request, spec, subscription, granted=True)
    except RequestError as error:
        session.answer(request.id, error)
    except Disconnect as error:
        session.refuse(error)
    session.unblock()


def _check_grant(session: Session, channel: str, outcome: Grant | RequestError | Disconnect) -> Grant:
    """The grant, if it is for this client and channel. Raises what is wrong with it."""
    if isinstance(outcome, RequestError):
        session.log_refusal(channel, "subscribe", Verdict(False, str(outcome), "a valid subscription token"))
        raise outcome
    if isinstance(outcome, Disconnect):
        raise outcome
    for name, claimed, actual in (
        ("channel", outcome.channel, channel),
        ("sub", outcome.user, session.user.name),
        ("client", outcome.client or session.client, session.client),
    ):
        if claimed != actual:
            raise Disconnect(errors.INVALID_TOKEN, f"the subscription token's {name} is another one")
    return outcome


def _subscribe(
    session: Session, request: Subscribe, spec: ChannelSpec, subscription: Subscription, *, granted: bool
) -> None:
    verdict = may_subscribe(spec, session.user.name, granted)
    if not verdict.allowed:
        session.log_refusal(request.channel, "subscribe", verdict)
        raise RequestError(errors.PERMISSION_DENIED, verdict.rule)
    session.subs[request.channel] = subscription
    session.services.node.acquire(spec.channel, partial(_subscribed, session, request, subscription))


def _subscribed(session: Session, request: Subscribe, subscription: Subscription, error: RequestError | None) -> None:
    if not session.settle(subscription, error):
        return
    if error is not None:
        session.answer(request.id, error)
    else:
        expires, ttl = session.expiry(subscription.expire_at)
        result = SubscribeResult(expires=expires, ttl=ttl)
        session.send(session.encoder.protocol.subscribed(request.id, request.channel, result))
        session.join(subscription)
    session.unblock()


def handle_unsubscribe(session: Session, request: Unsubscribe) -> None:
    if not request.channel:
        raise Disconnect(errors.BAD_COMMAND, "unsubscribe without a channel")
    subscription = session.subs.get(request.channel)
    if subscription is not None:
        session.leave(subscription)
    session.send(session.encoder.protocol.unsubscribed(request.id))


def handle_sub_refresh(session: Session, request: SubRefresh) -> None:
    subscription = session.subs.get(request.channel)
    if subscription is None:
        raise RequestError(errors.PERMISSION_DENIED, "not subscribed")
    session.services.verifier.subscription(request.token, partial(_sub_refreshed, session, request, subscription))


def _sub_refreshed(
    session: Session, request: SubRefresh, subscription: Subscription, outcome: Grant | RequestError | Disconnect
) -> None:
    if session.state is not State.CONNECTED:
        return
    try:
        if session.subs.get(request.channel) is not subscription:
            raise RequestError(errors.PERMISSION_DENIED, "not subscribed any more")
        if isinstance(outcome, RequestError) and not outcome.error.temporary:
            if outcome.error == errors.TOKEN_EXPIRED:
                raise RequestError(errors.EXPIRED)
            raise Disconnect(errors.INVALID_TOKEN, str(outcome))
        grant = _check_grant(session, request.channel, outcome)
    except RequestError as error:
        session.answer(request.id, error)
        return
    except Disconnect as error:
        session.refuse(error)
        return
    session.renew_subscription(subscription, grant.expire_at)
    expires, ttl = session.expiry(grant.expire_at)
    session.send(session.encoder.protocol.sub_refreshed(request.id, SubscribeResult(expires=expires, ttl=ttl)))
