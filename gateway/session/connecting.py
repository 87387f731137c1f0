"""Connect and refresh: who the client is, and what the server subscribes it to."""

from functools import partial

from msgspec import structs

from gateway import __version__, errors
from gateway.auth.identity import Grant, Identity, ServerSub
from gateway.errors import Disconnect, RequestError
from gateway.messages import Connect, ConnectResult, Refresh, RefreshResult
from gateway.session.recovery import arrive, bring_in, size
from gateway.session.session import Failure, Session
from gateway.session.state import State
from gateway.session.subscription import Subscription


def handle_connect(session: Session, request: Connect) -> None:
    if session.state is not State.OPENING:
        raise Disconnect(errors.BAD_COMMAND, "second connect")
    services = session.services
    session.state = State.CONNECTING
    session.inbox.block(request)
    admitted = session.then(request, partial(_admit, session, request), partial(_refuse, session, request))
    if request.malformed:
        services.metrics.connect_errors.add("malformed position")
        raise Disconnect(errors.POSITION_GONE._replace(reason=request.malformed))
    if request.unavailable:
        admitted(RequestError(errors.NOT_AVAILABLE, f"connect with {request.unavailable} in subs"))
    elif request.token:
        verify = services.verifier.either if request.by_grant else services.verifier.connection
        verify(request.token, admitted)
    elif services.anonymous:
        admitted(Identity(app=services.app, user=""))
    else:
        services.metrics.connect_errors.add("no token")
        # (A client of one channel sends its token with the handshake, others in a command.)
        hint = request.hint or ("" if session.home else "SDKs send the one of their option token or getToken")
        without = f"connect without a token ({hint})" if hint else "connect without a token"
        raise Disconnect(
            errors.BAD_COMMAND,
            f"{without}; `gateway token --user ID` makes one, auth.anonymous would let clients in without",
        )


def _refuse(session: Session, request: Connect, error: Failure) -> None:
    reason = error.code.reason if isinstance(error, Disconnect) else error.error.message
    session.services.metrics.connect_errors.add(reason)
    session.give_up(request, error)
    if session.state is State.CONNECTING:
        session.refused()


def _admit(session: Session, request: Connect, proved: Identity | Grant) -> bool:
    """Let the client in. True while it waits for its channels."""
    services = session.services
    if isinstance(proved, Identity):
        identity, subs = proved, _server_subscriptions(session, proved)
    else:
        # A grant opens only the channel that it names, which the subscribe that follows asks for.
        identity = Identity(app=proved.app, user=proved.user, jti=proved.jti, issued_at=proved.issued_at)
        subs = {}
    session.authenticated(identity)
    limit = services.limits.connections_per_user
    if limit and identity.user and services.clients.connections(session.user) > limit:
        raise Disconnect(errors.CONNECTION_LIMIT, "limits.connections_per_user")
    if not subs:
        _connect(session, request, subs)
        return False
    for name, granted in subs.items():
        channel = services.channels.resolve(services.app, name).channel
        session.subs[name] = subscription = Subscription(channel, server_side=True, info=granted.info)
        if identity.subs and name in identity.subs:
            # (The personal channel belongs to the user, whatever the token.)
            subscription.opened_by = identity
    positioned, failed = partial(_positioned, session, request, subs), partial(_fail, session)
    for name, subscription in list(session.subs.items()):
        bring_in(session, request, subscription, request.positions.get(name), positioned, failed)
    return True


def _server_subscriptions(session: Session, identity: Identity) -> dict[str, ServerSub]:
    """The channels that the token names, and the personal one. Raises RequestError for an invalid name."""
    subs = dict(identity.subs or {})
    services = session.services
    personal = services.channels.personal(services.app, identity.user)
    if personal is not None:
        subs.setdefault(personal.name, ServerSub())
    if session.home:
        # A plain connection has one channel: its client could not tell messages from another one apart.
        subs = {name: sub for name, sub in subs.items() if name == session.home}
    for name in subs:
        services.channels.resolve(services.app, name)
    if len(subs) > services.limits.channels:
        raise Disconnect(errors.CHANNEL_LIMIT, "limits.channels")
    return subs


def _positioned(session: Session, request: Connect, subs: dict[str, ServerSub], ready: None) -> bool:
    """One of them can join; once all can, they join together and the connect is answered. True until then."""
    if not all(each.acquired and (each.joiner is None or each.joiner.ready) for each in session.subs.values()):
        return True
    _connect(session, request, subs)
    return False


def _fail(session: Session, error: Failure) -> None:
    """Close the connection: the reply to a connect cannot report channels that the server cannot open."""
    session.refuse(error if isinstance(error, Disconnect) else Disconnect(errors.SERVER_ERROR, str(error)))


def _connect(session: Session, request: Connect, granted: dict[str, ServerSub]) -> None:
    services = session.services
    subs, room, items = {}, services.limits.outbox // 2, 0
    for name, each in granted.items():
        # All publications go into one reply.
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
        pong=session.out.encoder.answers_pings,
        expires=expires,
        ttl=ttl,
        node=services.node_name,
        subs=subs or None,
    )
    session.out.say(session.codec.connected(request.id, result))
    session.connected()
    for subscription in list(session.subs.values()):
        # Joining one may end it, which may close the connection and so end the others.
        if session.state is State.CONNECTED:
            session.join(subscription)


def handle_refresh(session: Session, request: Refresh) -> None:
    if not request.token:
        raise RequestError(errors.BAD_REQUEST, "refresh without a token")
    refreshed = session.then(request, partial(_refreshed, session, request), partial(_not_refreshed, session, request))
    session.services.verifier.connection(request.token, refreshed)


def _refreshed(session: Session, request: Refresh, identity: Identity) -> None:
    if identity.user != session.user.name:
        raise Disconnect(errors.INVALID_TOKEN, "the fresh token is of another user")
    session.renew(identity)
    expires, ttl = session.services.expiry(identity.expire_at)
    result = RefreshResult(client=session.client, version=__version__, expires=expires, ttl=ttl)
    session.out.say(session.codec.refreshed(request.id, result))


def _not_refreshed(session: Session, request: Refresh, error: Failure) -> None:
    """Answer temporary errors only; others close the connection."""
    if isinstance(error, RequestError) and not error.error.temporary:
        error = Disconnect(errors.CONNECTION_EXPIRED, str(error))
    session.give_up(request, error)
