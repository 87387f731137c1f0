"""Connect and refresh: who the client is, and what the server subscribes it to."""

from functools import partial

from msgspec import structs

from gateway import __version__, errors
from gateway.auth.identity import Grant, Identity, ServerSub
from gateway.errors import Disconnect, RequestError
from gateway.messages import Connect, ConnectResult, Refresh, RefreshResult
from gateway.session.recovery import approach, arrive, size
from gateway.session.session import Session
from gateway.session.state import State
from gateway.session.subscription import Subscription


def handle_connect(session: Session, request: Connect) -> None:
    if session.state is not State.OPENING:
        raise Disconnect(errors.BAD_COMMAND, "second connect")
    services = session.services
    session.state = State.CONNECTING
    session.inbox.block(request)
    if request.token:
        verify = services.verifier.either if request.by_grant else services.verifier.connection
        verify(request.token, session.then(partial(_verified, session, request)))
    elif services.anonymous:
        _verified(session, request, Identity(app=services.app, user=""))
    else:
        services.metrics.connect_errors.add("no token")
        raise Disconnect(errors.BAD_COMMAND, "connect without a token; auth.anonymous would allow it")


def _verified(session: Session, request: Connect, outcome: Identity | Grant | RequestError | Disconnect) -> None:
    if session.state is not State.CONNECTING:
        return
    try:
        _admit(session, request, outcome)
    except Disconnect as error:
        session.services.metrics.connect_errors.add(error.code.reason)
        session.refuse(error)
    except RequestError as error:
        session.services.metrics.connect_errors.add(error.error.message)
        _answer_refusal(session, request, error)


def _answer_refusal(session: Session, request: Connect, error: RequestError) -> None:
    session.answer(request, error)
    if session.state is State.CONNECTING:
        session.refused()
        session.inbox.unblock(request)


def _admit(session: Session, request: Connect, outcome: Identity | Grant | RequestError | Disconnect) -> None:
    if isinstance(outcome, RequestError | Disconnect):
        raise outcome
    services = session.services
    if isinstance(outcome, Identity):
        identity, subs = outcome, _server_subscriptions(session, outcome)
    else:
        # It opens the one channel that it names, which the subscribe behind it asks for, and nothing else.
        identity = Identity(app=outcome.app, user=outcome.user, jti=outcome.jti, issued_at=outcome.issued_at)
        subs = {}
    session.authenticated(identity)
    limit = services.limits.connections_per_user
    if limit and identity.user and services.clients.connections(session.user) > limit:
        raise Disconnect(errors.CONNECTION_LIMIT, "limits.connections_per_user")
    if not subs:
        _connected(session, request, subs)
        return
    waiting = set(subs)
    for name, granted in subs.items():
        channel = services.channels.resolve(services.app, name).channel
        session.subs[name] = subscription = Subscription(channel, server_side=True, info=granted.info)
        if identity.subs and name in identity.subs:
            # The personal channel is that of the user, whatever the token.
            subscription.opened_by = identity
    for subscription in list(session.subs.values()):
        acquired = session.then(partial(_acquired, session, request, subscription, waiting, subs))
        services.messaging.acquire(subscription.channel, acquired)


def _server_subscriptions(session: Session, identity: Identity) -> dict[str, ServerSub]:
    """The channels that the token names, and the personal one. Raises RequestError for a name that is not valid."""
    subs = dict(identity.subs or {})
    services = session.services
    personal = services.channels.personal(services.app, identity.user)
    if personal is not None:
        subs.setdefault(personal.name, ServerSub())
    if session.home:
        # A plain connection has one channel: of what came from another one nobody could tell.
        subs = {name: sub for name, sub in subs.items() if name == session.home}
    for name in subs:
        services.channels.resolve(services.app, name)
    if len(subs) > services.limits.channels:
        raise Disconnect(errors.CHANNEL_LIMIT, "limits.channels")
    return subs


def _acquired(
    session: Session,
    request: Connect,
    subscription: Subscription,
    waiting: set[str],
    subs: dict[str, ServerSub],
    error: RequestError | None,
) -> None:
    """One of the server-side subscriptions of a connect reaches the node."""
    if not session.settle(subscription, error):
        return
    if error is not None:
        session.refuse(Disconnect(errors.SERVER_ERROR, str(error)))
        return
    name = subscription.channel.name
    waiting.remove(name)
    changed = session.then(partial(_positioned, session, request, waiting, subs))
    approach(session, subscription, request.positions.get(name), changed)


def _positioned(
    session: Session, request: Connect, waiting: set[str], subs: dict[str, ServerSub], error: RequestError | None
) -> None:
    """One of them could join; when all can, they do so at once, and the connect is answered."""
    if session.state is not State.CONNECTING:
        return
    if error is not None:
        session.refuse(Disconnect(errors.SERVER_ERROR, str(error)))
        return
    joiners = (subscription.joiner for subscription in session.subs.values())
    if not waiting and all(joiner is None or joiner.ready for joiner in joiners):
        try:
            _connected(session, request, subs)
        except Disconnect as close:
            session.refuse(close)


def _connected(session: Session, request: Connect, granted: dict[str, ServerSub]) -> None:
    services = session.services
    subs, room, items = {}, services.limits.outbox // 2, 0
    for name, each in granted.items():
        # All of it is one reply.
        arrived = arrive(session, session.subs[name], request.positions.get(name), room)
        room -= size(arrived.publications)
        items += len(arrived.publications)
        subs[name] = structs.replace(arrived, data=each.data)
    session.inbox.rest(items, services.limits.outbox // 2 - room)
    assert session.identity is not None
    expires, ttl = session.services.expiry(session.identity.expire_at)
    result = ConnectResult(
        client=session.client,
        version=__version__,
        ping=max(round(services.heartbeat.ping_interval), 1),
        pong=session.encoder.answers_pings,
        expires=expires,
        ttl=ttl,
        node=services.node_name,
        subs=subs or None,
    )
    session.send(session.codec.connected(request.id, result))
    session.connected()
    for subscription in list(session.subs.values()):
        # The first may be one whose end closes the connection, and with it the others.
        if session.state is State.CONNECTED:
            session.join(subscription)
    session.inbox.unblock(request)


def handle_refresh(session: Session, request: Refresh) -> None:
    session.services.verifier.connection(request.token, session.then(partial(_refreshed, session, request)))


def _refreshed(session: Session, request: Refresh, outcome: Identity | RequestError | Disconnect) -> None:
    if session.state is not State.CONNECTED:
        return
    try:
        identity = _check_refresh(session, outcome)
    except RequestError as error:
        session.answer(request, error)
        return
    except Disconnect as error:
        session.refuse(error)
        return
    session.renew(identity)
    expires, ttl = session.services.expiry(identity.expire_at)
    result = RefreshResult(client=session.client, version=__version__, expires=expires, ttl=ttl)
    session.send(session.codec.refreshed(request.id, result))


def _check_refresh(session: Session, outcome: Identity | RequestError | Disconnect) -> Identity:
    """The fresh identity, if it is of the same user. Raises what is wrong with it: RequestError only for the moment."""
    if isinstance(outcome, RequestError) and not outcome.error.temporary:
        raise Disconnect(errors.CONNECTION_EXPIRED, str(outcome))
    if isinstance(outcome, RequestError | Disconnect):
        raise outcome
    if outcome.user != session.user.name:
        raise Disconnect(errors.INVALID_TOKEN, "the fresh token is of another user")
    return outcome
