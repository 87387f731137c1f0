"""Connect and refresh: who the client is, and what the server subscribes it to."""

from functools import partial
from typing import Any

from msgspec import structs

from gateway import __version__, errors
from gateway.auth.identity import Grant, Identity, ServerSub
from gateway.errors import Disconnect, RequestError
from gateway.hooks.decisions import Admitted, Extended, Undecided
from gateway.messages import Connect, ConnectResult, Refresh, RefreshResult, User
from gateway.session.asking import connect_question, refresh_question
from gateway.session.completion import Failure
from gateway.session.inbox import ExtendConnection
from gateway.session.recovery import arrive, bring_in, size
from gateway.session.session import Session
from gateway.session.state import State
from gateway.session.subscription import Subscription


def handle_connect(session: Session, request: Connect) -> None:
    if session.state is not State.OPENING:
        raise Disconnect(errors.BAD_COMMAND, "second connect")
    services = session.services
    session.state = State.CONNECTING
    session.inbox.block(request)
    proved = session.then(request, partial(_proved, session, request), partial(_refuse, session, request))
    if request.malformed:
        services.metrics.connect_errors.add("malformed position")
        raise Disconnect(errors.POSITION_GONE._replace(reason=request.malformed))
    if request.unavailable:
        proved(RequestError(errors.NOT_AVAILABLE, f"connect with {request.unavailable} in subs"))
    elif request.token:
        verify = services.verifier.either if request.by_grant else services.verifier.connection
        verify(request.token, proved)
    elif services.application.connect is not None:
        proved(None)
    elif services.anonymous:
        proved(Identity(app=services.app, user=""))
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


def _proved(session: Session, request: Connect, proved: Identity | Grant | None) -> bool:
    """The client has shown its token, or it has none: ask the application, if it has a hook, or let the client in."""
    ask = session.services.application.connect
    if ask is None:
        assert proved is not None
        _note(session, proved.user)
        return _admit(session, request, _identity(session, proved), by_grant=isinstance(proved, Grant))
    decided = partial(_decided, session, request, proved, session.services.verifier.revocations)
    refuse, late = partial(_refuse, session, request), partial(_let_in_too_late, session, proved)
    done = session.then(request, decided, refuse, late)
    ask(connect_question(session, request, proved.user if proved is not None else ""), done)
    return True


def _note(session: Session, user: str) -> None:
    """The client is let in: the application is told of its end, even if something else refuses it from now on.

    Raises RequestError if what the connect hook keeps with it cannot be noted.
    """
    if (notes := session.services.notes) is not None:
        notes.connected(session.client, User(session.services.app, user), session.peer)


def _let_in_too_late(
    session: Session, proved: Identity | Grant | None, outcome: Admitted | Undecided | Failure
) -> None:
    """The client was gone when the application let it in: it may count it as connected, so it is told of the end."""
    if not isinstance(outcome, Admitted) or (notes := session.services.notes) is None:
        return
    assert session.peer is not None
    session.peer.meta = outcome.meta
    try:
        _note(session, _user(proved, outcome))
    except RequestError as error:
        session.log_refusal("connect", "", error)
    notes.disconnected(session.client, errors.CONNECTION_CLOSED)


def _user(proved: Identity | Grant | None, decision: Admitted) -> str:
    """Who the client is: the application says so, or its token; empty for neither."""
    if decision.user is not None:
        return decision.user
    return proved.user if proved is not None else ""


def _decided(
    session: Session,
    request: Connect,
    proved: Identity | Grant | None,
    revocations: int,
    decision: Admitted | Undecided,
) -> bool:
    """The application lets the client in, or the settings do. Raises Disconnect when nothing says who it is.

    `revocations` that the verifier knew when the application was asked: it decided without knowing newer ones.
    """
    services, verifier = session.services, session.services.verifier
    assert session.peer is not None
    session.peer.handshake = None
    if isinstance(decision, Admitted):
        session.peer.meta = decision.meta
        _note(session, _user(proved, decision))
    if proved is not None:
        verifier.check_revocation(proved)
    if isinstance(decision, Undecided):
        if proved is None and not services.anonymous:
            # Temporary: the client comes back for the decision.
            raise decision.error
        identity = Identity(app=services.app, user="") if proved is None else _identity(session, proved)
        _note(session, identity.user)
        return _admit(session, request, identity, by_grant=isinstance(proved, Grant))
    if proved is None and decision.user is None and not services.anonymous:
        raise Disconnect(
            errors.BAD_COMMAND,
            "connect without a token, and the connect hook named no user; auth.anonymous would let such clients in",
        )
    # Without a token, revocations of the user compare the time of the connect.
    now = int(services.scheduler.time())
    anonymous = Identity(app=services.app, user="", issued_at=now)
    identity = anonymous if proved is None else _identity(session, proved, decision.user)
    user = _user(proved, decision)
    if verifier.is_revoked_since(revocations, user):
        raise RequestError(errors.INTERNAL, "the user was revoked while the connect hook decided")
    opened = {
        name: ServerSub(each.info, each.data)
        for name, each in decision.channels.items()
        if not verifier.is_revoked_since(revocations, user, name)
    }
    changes: dict[str, Any] = {"user": user, "subs": {**(identity.subs or {}), **opened}}
    if decision.info is not None:
        changes["info"] = decision.info
    if decision.expire_at is not None:
        changes |= {"expire_at": decision.expire_at, "extended": True}
    identity = structs.replace(identity, **changes)
    return _admit(session, request, identity, decision.data, by_grant=isinstance(proved, Grant))


def _identity(session: Session, proved: Identity | Grant, user: str | None = None) -> Identity:
    """Who a connection token names, or a subscription token, which opens nothing by itself; or `user`, if one is given.

    Without the channels that the user has been kicked from since.
    """
    if isinstance(proved, Identity):
        identity = proved if user is None else structs.replace(proved, user=user)
        if identity.subs is None:
            return identity
        opens = session.services.verifier.opens
        return structs.replace(
            identity, subs={name: sub for name, sub in identity.subs.items() if opens(identity, name)} or None
        )
    return Identity(app=proved.app, user=proved.user, jti=proved.jti, issued_at=proved.issued_at)


def _admit(session: Session, request: Connect, identity: Identity, data: bytes = b"", *, by_grant: bool) -> bool:
    """Let the client in. True while it waits for its channels. `data` goes to the client."""
    services = session.services
    subs = _server_subscriptions(session, identity, request, by_grant=by_grant)
    session.authenticated(identity)
    limit = services.limits.connections_per_user
    if limit and identity.user and services.clients.connections(session.user) > limit:
        raise Disconnect(errors.CONNECTION_LIMIT, "limits.connections_per_user")
    if not subs:
        _connect(session, request, subs, data)
        return False
    for name, granted in subs.items():
        channel = services.channels.resolve(services.app, name).channel
        session.subs[name] = subscription = Subscription(channel, server_side=True, info=granted.info)
        if identity.subs and name in identity.subs:
            # (The personal channel belongs to the user, whatever the token.)
            subscription.opened_by = identity
    positioned, failed = partial(_positioned, session, request, subs, data), partial(_fail, session)
    for name, subscription in list(session.subs.items()):
        bring_in(session, request, subscription, request.positions.get(name), positioned, failed)
    return True


def _server_subscriptions(
    session: Session, identity: Identity, request: Connect, *, by_grant: bool
) -> dict[str, ServerSub]:
    """The channels that token, application and settings name, and the personal one. Raises RequestError for an invalid
    name.

    A grant opens only the channel that it names, which the subscribe that follows asks for, and not the personal one.
    """
    subs = dict(identity.subs or {})
    services = session.services
    personal = services.channels.personal(services.app, identity.user)
    if personal is not None and not by_grant:
        subs.setdefault(personal.name, ServerSub())
    for name in request.joins:
        subs.setdefault(name, ServerSub())
    if request.own:
        subs.setdefault(request.own + session.client, ServerSub())
    if session.home:
        # A plain connection has one channel: its client could not tell messages from another one apart.
        subs = {name: sub for name, sub in subs.items() if name == session.home}
    for name in subs:
        services.channels.resolve(services.app, name)
    if len(subs) > services.limits.channels:
        raise Disconnect(errors.CHANNEL_LIMIT, "limits.channels")
    return subs


def _positioned(session: Session, request: Connect, subs: dict[str, ServerSub], data: bytes, ready: None) -> bool:
    """One of them can join; once all can, they join together and the connect is answered. True until then."""
    if not all(each.acquired and (each.joiner is None or each.joiner.ready) for each in session.subs.values()):
        return True
    _connect(session, request, subs, data)
    return False


def _fail(session: Session, error: Failure) -> None:
    """Close the connection: the reply to a connect cannot report channels that the server cannot open."""
    session.refuse(error if isinstance(error, Disconnect) else Disconnect(errors.SERVER_ERROR, str(error)))


def _connect(session: Session, request: Connect, granted: dict[str, ServerSub], data: bytes) -> None:
    services = session.services
    subs, room, items = {}, services.limits.outbox // 2, 0
    for name, each in granted.items():
        if session.subs[name].kicked:
            session.leave(session.subs[name])
            continue
        # All publications go into one reply.
        arrived = arrive(session, session.subs[name], request.positions.get(name), room)
        room -= size(arrived.publications)
        items += len(arrived.publications)
        subs[name] = structs.replace(arrived, data=each.data)
    session.inbox.rest(items, services.limits.outbox // 2 - room)
    assert session.identity is not None
    # The application extends what it has limited; the client has nothing to do for that.
    expires, ttl = services.expiry(0 if session.identity.extended else session.identity.expire_at)
    result = ConnectResult(
        client=session.client,
        version=__version__,
        ping=max(round(services.heartbeat.ping_interval), 1),
        pong=session.out.encoder.answers_pings,
        expires=expires,
        ttl=ttl,
        node=services.node_name,
        session=session.secret,
        data=data,
        subs=subs or None,
    )
    session.out.say(session.codec.connected(request.id, result))
    session.connected()
    for subscription in list(session.subs.values()):
        # Joining one may end it, which may close the connection and so end the others.
        if session.state is State.CONNECTED:
            session.join(subscription)


def handle_extend_connection(session: Session, request: ExtendConnection) -> None:
    """The connection is due to expire: ask the application to let it live on, or end it."""
    ask = session.services.application.refresh
    if ask is None:
        raise Disconnect(errors.CONNECTION_EXPIRED)
    extended = session.then(request, partial(_extended, session), partial(_not_extended, session))
    ask(refresh_question(session), extended)


def _extended(session: Session, decision: Extended) -> None:
    assert session.identity is not None
    changes: dict[str, Any] = {"expire_at": decision.expire_at}
    if decision.info is not None:
        changes["info"] = decision.info
    session.identity = structs.replace(session.identity, **changes)
    session.reschedule()


def _not_extended(session: Session, error: Failure) -> None:
    """Close the connection; where the client may come back, the connect hook is asked again."""
    session.refuse(error if isinstance(error, Disconnect) else Disconnect(errors.CONNECTION_EXPIRED, str(error)))


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
