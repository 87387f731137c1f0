"""A client's session: its state, its subscriptions, its deadlines. The commands are in `commands`."""

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from msgspec import structs

from gateway import errors
from gateway.auth.identity import Identity, is_meant
from gateway.auth.rate_limits import Share, TokenBucket
from gateway.control import KickUser, RevokeTokens, SubscribeUser
from gateway.errors import CloseCode, Disconnect, RequestError, UnsubscribeCode
from gateway.hooks.questions import Peer
from gateway.hub.encoder import Encoder
from gateway.messages import ClientId, ClientInfo, Request, User
from gateway.session.completion import Failure, completion
from gateway.session.expiry import ends, is_over
from gateway.session.inbox import ExtendConnection, ExtendSubscription, Inbox, Work
from gateway.session.liveness import Liveness
from gateway.session.outgoing import Outgoing
from gateway.session.services import SessionServices
from gateway.session.state import State
from gateway.session.subscription import Subscription
from gateway.session.transport import Transport, Write

# Seconds within which a client whose connect was refused should close by itself.
REFUSED_DELAY = 5.0

T = TypeVar("T")


class Session:
    """One client. Implements the Connection port of the transports and the Client port of the node."""

    __slots__ = (
        "_initial",
        "_next",
        "client",
        "codec",
        "due",
        "home",
        "identity",
        "inbox",
        "liveness",
        "out",
        "peer",
        "secret",
        "services",
        "share",
        "state",
        "subs",
    )

    inbox: Inbox
    share: Share  # set once the user is known

    def __init__(
        self,
        services: "SessionServices[Session]",
        encoder: Encoder,
        *,
        home: str = "",
        initial: Sequence[Request] = (),
        peer: Peer | None = None,
        secret: str = "",
    ) -> None:
        """`initial` requests run as soon as the socket is open; `home` is the channel of publishes that name none.

        `peer`: who the client is, for the application; needed if it has hooks. `secret`: what the client names this
        session by in requests of its own, if its transport only carries what it gets.
        """
        self.services = services
        self.client = ClientId(str(uuid.uuid4()))
        self.state = State.OPENING
        self.identity: Identity | None = None
        self.subs: dict[str, Subscription] = {}
        self.home = home
        self.peer = peer
        self.secret = secret
        self.due = 0
        self.codec = encoder.protocol.open()
        self.out = Outgoing(self, services, encoder)
        self._initial = initial
        # Where to move once the client has read what waits.
        self._next: tuple[Transport, Encoder] | None = None
        self.liveness = Liveness()

    @property
    def num_channels(self) -> int:
        return len(self.subs)

    @property
    def weight(self) -> int:
        """Checking its deadlines, or ending it, goes through all its subscriptions."""
        return 1 + len(self.subs)

    @property
    def user(self) -> User:
        """The session's user; anonymous before connect."""
        return User(self.services.app, self.identity.user if self.identity is not None else "")

    # Connection port: what the transport calls

    def opened(self, transport: Transport) -> None:
        self.out.open(transport)
        bucket = TokenBucket.of(self.services.limits.commands_per_second)
        self.inbox = Inbox(transport, bucket, self, self.services)
        self.services.metrics.accepted.add()
        self.services.opening.add(self)
        self.services.wheel.schedule(self, self.services.heartbeat.connect_timeout)
        initial, self._initial = self._initial, ()
        self.inbox.put(initial)

    def received(self, data: bytes, *, binary: bool) -> None:
        if self.state is State.CLOSED:
            return
        if self.state is State.REFUSED:
            self.refuse(Disconnect(errors.BAD_COMMAND, "commands after a refused connect"))
            return
        self.services.metrics.messages_in.add()
        self.services.metrics.bytes_in.add(len(data))
        try:
            commands = self.codec.count(data)
            if not self.inbox.charge(commands):
                raise Disconnect(errors.TOO_MANY_COMMANDS, "limits.commands_per_second")
        except Disconnect as error:
            self.refuse(error)
        except Exception:
            self.fail("decode")
        else:
            self.inbox.receive(data, binary=binary, commands=commands)

    def ponged(self) -> None:
        # Unsolicited pongs are legal (RFC 6455 5.5.3), and do not count for a protocol with its own pings.
        if self.liveness.is_asking and self.out.encoder.pinged_by_transport:
            self.pong()

    def pause_writing(self) -> None:
        self.out.pause()

    def resume_writing(self) -> None:
        is_clear = self.out.resume()
        if is_clear and self._next is not None:
            waiting, self._next = self._next, None
            self.move(*waiting)
        if not self.out.is_congested:
            self.inbox.go_on()

    def move(self, transport: Transport, encoder: Encoder) -> None:
        """Switch to another transport, with another framing of the protocol; the old one is released.

        No output is lost, repeated or reordered: a congested session moves once the client has read what waits. What
        the client sent over the old transport must have been received by then.
        """
        self._forget_move()
        # Pauses the session if the socket cannot take it.
        self.out.uncork()
        if self.out.is_congested or self.state is State.CLOSED:
            self._next = transport, encoder
            if self.state is State.CLOSED:
                self._forget_move()
            return
        formers = [(each, self._encoder_of(each)) for each in self.subs.values() if each.joined]
        before, parting = self.out.exchange(transport, encoder)
        for subscription, former in formers:
            encoder = self._encoder_of(subscription)
            self.services.messaging.move(subscription.lane, self, former, encoder, self.out.write)
        before.release(parting)
        if self.identity is not None:
            transport.authenticated()
        self.inbox.move(transport)
        transport.drive(self)

    def _forget_move(self) -> None:
        """Close the new transport of a move that still waits for the client to read."""
        if self._next is not None:
            (transport, encoder), self._next = self._next, None
            transport.close(errors.CONNECTION_CLOSED, encoder.goodbye(errors.CONNECTION_CLOSED, self.codec))

    def closed(self, code: int, reason: str) -> None:
        if self.state is not State.CLOSED:
            self.services.metrics.closed.add("client")
            self._end(errors.CONNECTION_CLOSED)

    def shutdown(self) -> None:
        self.disconnect(errors.SHUTDOWN)

    # Client port: what the node calls

    def disconnect(self, code: CloseCode) -> None:
        """Close the connection; nothing is delivered from now on."""
        # Write what was said before. (If that fails, the failure closes the connection.)
        self.out.uncork()
        if self.state is State.CLOSED:
            return
        self.services.count_close(code)
        self._end(code)
        self.out.close(code, self.codec)

    def subscribe_by_server(self, message: SubscribeUser) -> None:
        self.inbox.put((message,))

    def unsubscribe_by_server(self, name: str, code: UnsubscribeCode) -> bool:
        withdrawn = self.inbox.withdraw(name)
        names = {name} & self.subs.keys() if name else list(self.subs)
        # Ending one may close the connection, and so end the others.
        ended = [self.end_subscription(self.subs[each], code) for each in names if each in self.subs]
        return withdrawn or any(ended)

    def end_subscription(self, subscription: Subscription, code: UnsubscribeCode) -> bool:
        """End a subscription for the client, which is told; True unless there was nothing to do."""
        if not subscription.joined:
            # It ends once the client has been told that it began.
            subscription.ending = code
            return True
        if subscription.server_side and code.code >= errors.UNSUBSCRIBED_INSUFFICIENT.code:
            # The client cannot resubscribe to a server-side subscription; it gets it back by reconnecting.
            expired = code == errors.UNSUBSCRIBED_EXPIRED
            self.disconnect(errors.SUBSCRIPTION_EXPIRED if expired else errors.INSUFFICIENT_STATE)
            return True
        self.leave(subscription, code)
        try:
            self.out.say(self.out.encoder.protocol.push_unsubscribe(subscription.channel.name, code))
        except Disconnect as error:
            self.disconnect(error.code)
        return True

    def refresh_by_server(self, *, expired: bool, expire_at: int) -> None:
        assert self.identity is not None
        if expired or 0 < expire_at <= self.services.scheduler.time():
            self.disconnect(errors.CONNECTION_EXPIRED)
            return
        self.identity = structs.replace(self.identity, expire_at=expire_at)
        # A connect in progress tells the client in its reply.
        if self.state is not State.CONNECTED:
            return
        self.reschedule()
        if not self.identity.extended:
            self.out.say(self.out.encoder.protocol.push_refresh(self.services.expiry(expire_at)[1]))

    def revoke(self, revoked: RevokeTokens) -> bool:
        if self.identity is None:
            return False
        grants = [each.grant for each in self.subs.values() if each.grant is not None]
        if is_meant(revoked, self.identity) or any(is_meant(revoked, grant) for grant in grants):
            # A node may hear late of a revocation: who may have logged in since comes back, and the token is judged.
            for_good = revoked.jti or self.services.verifier.is_surely_revoked(self.identity)
            self.disconnect(errors.INVALID_TOKEN if for_good else errors.CONNECTION_EXPIRED)
            return True
        opened = [name for name, each in self.subs.items() if each.opened_by and is_meant(revoked, each.opened_by)]
        for name in opened:
            self.unsubscribe_by_server(name, errors.UNSUBSCRIBED_BY_SERVER)
        return bool(opened)

    def kick(self, kicked: KickUser, *, late: bool) -> bool:
        withdrawn = self.inbox.withdraw(kicked.channel)
        subscription = self.subs.get(kicked.channel)
        if subscription is None:
            return withdrawn
        token = subscription.grant or subscription.opened_by
        is_good = token is not None and token.issued_at >= kicked.issued_before
        if is_good and late:
            return withdrawn
        if is_good or (late and token is None):
            # The client asks again, and what opened the channel decides anew.
            return self.end_subscription(subscription, errors.UNSUBSCRIBED_EXPIRED)
        if subscription.joined:
            return self.end_subscription(subscription, errors.UNSUBSCRIBED_BY_SERVER)
        subscription.kicked = True
        return True

    def member(self, name: str) -> ClientInfo:
        assert self.identity is not None
        chan_info = self.subs[name].info if name in self.subs else b""
        return ClientInfo(self.identity.user, self.client, self.identity.info, chan_info)

    # Used by the commands

    def answer(self, request: Work, error: RequestError) -> None:
        """Answer a request with an error, or close where the protocol has no replies; and log why."""
        error.detach()
        self.services.metrics.errors.add(str(error.error.code))
        channel = getattr(request, "channel", "") or self.home
        self.log_refusal(type(request).__name__.lower(), channel, error)
        try:
            self.out.say(self.codec.failed(getattr(request, "id", 0), error.error))
        except Disconnect as close:
            self.refuse(Disconnect(close.code, close.detail or error.detail or error.error.message))

    def refuse(self, error: Disconnect) -> None:
        """Close the connection for what the client did, and log why."""
        error.detach()
        self.services.refusals.disconnected(client=self.client, user=self.user.name, error=error)
        self.disconnect(error.code)

    def log_refusal(self, operation: str, channel: str, error: RequestError) -> None:
        """One line that answers "why did my client not get it?"."""
        self.services.refusals.refused(
            client=self.client,
            user=self.user.name,
            channel=channel,
            operation=operation,
            rule=error.detail or error.error.message,
            setting=error.setting,
        )

    def then(
        self,
        request: Work,
        proceed: Callable[[T], bool | None],
        failed: Callable[[Failure], object] | None = None,
        abandoned: Callable[[T | Failure], object] | None = None,
    ) -> Callable[[T | Failure], None]:
        """A callback for the outcome of something that a request waits for. It may be called more than once.

        `proceed` gets the outcome. An error, as the outcome or raised by `proceed`, goes to `failed`; without it, the
        error is answered or closes the connection. Then the requests after this one run, unless `proceed` returned
        True: the request waits for something else, or for another call.

        An outcome that comes too late, when the connection is closed, goes to `abandoned` only. A fault closes the
        connection (3004): otherwise its client would wait forever.
        """
        return completion(self, request, proceed, failed, abandoned)

    def give_up(self, request: Work, error: Failure) -> None:
        """The request cannot be carried out: answer it with the error, or close the connection."""
        if isinstance(error, Disconnect):
            self.refuse(error)
        else:
            self.answer(request, error)

    def fail(self, part: str) -> None:
        """A caught fault kept something from the client: close, so that it reconnects and asks again."""
        self.services.guard.failed(part, self.client)
        self.disconnect(errors.SERVER_ERROR)

    def widen(self) -> None:
        """One more channel is joined: from now on each publication tells where the client stands in all of them.

        Before the client is told of the new one.
        """
        if (standing := self.out.encoder.standing) is None:
            return
        for each in self.subs.values():
            if each.alone:
                self._regroup(each, alone=False)
                standing.stand(each.channel.name, self.services.messaging.position(each.channel))

    def _narrow(self, channel: str) -> None:
        """A channel was left: with a single one, the client stands where all its subscribers do."""
        if (standing := self.out.encoder.standing) is None:
            return
        standing.left(channel)
        joined = [each for each in self.subs.values() if each.joined]
        if len(joined) == 1 and len(self.subs) == 1 and not joined[0].alone:
            self._regroup(joined[0], alone=True)

    def _regroup(self, subscription: Subscription, *, alone: bool) -> None:
        """What the client has not got yet is written now."""
        former = self._encoder_of(subscription)
        subscription.alone = alone
        encoder = self._encoder_of(subscription)
        self.services.messaging.move(subscription.lane, self, former, encoder, self.out.write)

    def join(self, subscription: Subscription) -> None:
        """Deliver the channel's publications from now on. Its reply or push must have been written."""
        self.widen()
        subscription.alone = self.out.encoder.single is not None and len(self.subs) == 1
        subscription.joined = True
        encoder = self._encoder_of(subscription)
        self.services.messaging.join(subscription.channel, subscription.lane, self, encoder, self.out.write)
        if (notes := self.services.notes) is not None:
            notes.subscribed(self.client, self.user, self.peer, subscription)
        if subscription.ending is not None:
            self.end_subscription(subscription, subscription.ending)
        elif subscription.expire_at:
            self.reschedule()

    def leave(self, subscription: Subscription, code: UnsubscribeCode = errors.UNSUBSCRIBED_BY_CLIENT) -> None:
        """End a subscription, however far it has come."""
        del self.subs[subscription.channel.name]
        if (notes := self.services.notes) is not None:
            notes.unsubscribed(subscription, code)
        if subscription.joiner is not None:
            subscription.joiner.cancel()
            subscription.joiner = None
        if subscription.joined:
            encoder = self._encoder_of(subscription)
            self.services.messaging.leave(subscription.channel, subscription.lane, self, encoder)
        elif subscription.acquired:
            self.services.messaging.release(subscription.channel)
        if self.state is not State.CLOSED:
            self._narrow(subscription.channel.name)

    def authenticated(self, identity: Identity) -> None:
        """The client has proved who it is."""
        self.identity = identity
        self.out.transport.authenticated()
        self.services.opening.discard(self)
        limits, clients = self.services.limits, self.services.clients
        clients.add(self)
        self.share = self.inbox.share = clients.share(
            self.user, subscribes=limits.subscribes_per_second, publishes=limits.publishes_per_second
        )

    def connected(self) -> None:
        """The connect is answered: ping from now on, first at a random time to spread clients out."""
        self.state = State.CONNECTED
        if self.out.encoder.is_pinged:
            self.liveness.start(self.services.scheduler.now(), self.services.heartbeat.ping_interval)
        self.reschedule()

    def pong(self) -> None:
        """The client answered the ping. Raises Disconnect when none was sent."""
        self.liveness.answered()
        self.reschedule()

    def renew(self, identity: Identity) -> None:
        """The client has proved again who it is."""
        self.identity = identity
        for name, each in self.subs.items():
            if each.opened_by is not None and identity.subs and name in identity.subs:
                each.opened_by = identity
        self.reschedule()

    def refused(self) -> None:
        """The connect was answered with an error; the client should leave."""
        self.state = State.REFUSED
        # Requests sent along with the connect, before the client could know.
        self.inbox.drop()
        self.services.wheel.schedule(self, REFUSED_DELAY)

    # Called by its inbox

    @property
    def payer(self) -> User | None:
        return self.user if self.user.name else None

    def shed(self) -> None:
        self.refuse(Disconnect(errors.SLOW, "limits.waiting"))

    def write_failed(self) -> None:
        self.services.guard.failed("write", self.client)
        # Called within a delivery, whose dictionary must not shrink.
        self.services.scheduler.call_soon(partial(self.disconnect, errors.SERVER_ERROR))

    # Called by its outgoing part

    def redirected(self, write: Write) -> None:
        messaging = self.services.messaging
        for subscription in self.subs.values():
            if subscription.joined:
                messaging.redirect(subscription.lane, self, self._encoder_of(subscription), write)

    def overflowed(self, setting: str) -> None:
        # Called within a delivery, whose dictionary must not shrink.
        self.services.scheduler.call_soon(partial(self.refuse, Disconnect(errors.SLOW, setting)))

    def _encoder_of(self, subscription: Subscription) -> Encoder:
        encoder = self.out.encoder
        return (subscription.delta and encoder.delta) or (subscription.alone and encoder.single) or encoder

    # Deadlines

    def on_timer(self) -> None:
        """Called by the wheel: a ping, pong, expiry or connect deadline is due."""
        try:
            self._look_at_deadlines()
        except Exception:
            # No deadline is set now, so nothing would look at the session again.
            self.fail("timer")

    def _look_at_deadlines(self) -> None:
        if self.state is not State.CONNECTED:
            self.disconnect(errors.CONNECTION_CLOSED if self.state is State.REFUSED else errors.STALE)
            return
        if not self._expire():
            return
        services = self.services
        try:
            self.liveness.look(services.scheduler.now(), services.heartbeat, self.out, self.inbox)
        except Disconnect as error:
            if error.code == errors.NO_PONG:
                self.disconnect(error.code)
            else:
                self.refuse(error)
            return
        self.reschedule()

    def _expire(self) -> bool:
        """End what has expired; False when that ended the connection."""
        now, grace = self.services.scheduler.time(), self.services.heartbeat.expired_grace
        identity = self.identity
        if identity is not None and is_over(identity, grace, now):
            if not identity.extended:
                self.disconnect(errors.CONNECTION_EXPIRED)
                return False
            # It does not expire while the application is asked.
            self.identity = structs.replace(identity, expire_at=0)
            self.inbox.put((ExtendConnection(),))
        subs = self.subs.values()
        expired = [each for each in subs if each.joined and is_over(each, grace, now)]
        for subscription in expired:
            # Ending one may close the connection, and so end the others.
            if self.subs.get(subscription.channel.name) is not subscription:
                continue
            if subscription.extended:
                subscription.expire_at = 0
                self.inbox.put((ExtendSubscription(subscription.channel.name),))
            else:
                self.end_subscription(subscription, errors.UNSUBSCRIBED_EXPIRED)
        return self.state is State.CONNECTED

    def reschedule(self) -> None:
        """Set the next deadline: the earliest of pong, ping and the expiries."""
        services = self.services
        due = self.liveness.due
        delay = due - services.scheduler.now() if due else 3600.0
        first = min(ends(self.identity, self.subs.values(), services.heartbeat.expired_grace), default=None)
        if first is not None:
            delay = min(delay, first - services.scheduler.time())
        services.wheel.schedule(self, max(delay, 0.0))

    def _end(self, code: CloseCode) -> None:
        """Release everything but the transport."""
        self.state = State.CLOSED
        self.services.wheel.cancel(self)
        self.services.opening.discard(self)
        self.services.clients.remove(self)
        for name, subscription in list(self.subs.items()):
            # A channel that cannot be left must not keep the socket open.
            self.services.guard.call("leave", name, self.leave, subscription, errors.UNSUBSCRIBED_BY_DISCONNECT)
        if (notes := self.services.notes) is not None:
            notes.disconnected(self.client, code)
        self.out.drop()
        self.inbox.close()
        self.services.guard.call("leave", "", self._forget_move)
