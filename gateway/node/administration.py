"""Administration of the cluster: control messages in and out, and what each node reports about itself."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol, assert_never

from msgspec import structs

from gateway import __version__
from gateway.auth.revocations import Revocations
from gateway.broker.base import Broker, Registry
from gateway.broker.envelope import VERSION
from gateway.control import (
    END_OF_TIME,
    Answer,
    ChannelPage,
    Control,
    ControlResult,
    DisconnectUser,
    DrainNode,
    KickUser,
    LearnRevocations,
    NodeId,
    NodeInfo,
    RefreshUser,
    Reloaded,
    ReloadSettings,
    Revocation,
    RevokeTokens,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.errors import INSUFFICIENT_STATE, UNSUBSCRIBED_BY_SERVER, CloseCode
from gateway.guard import Guard
from gateway.hub.hub import Hub
from gateway.messages import User
from gateway.node.announcements import Announcements
from gateway.node.clients import Client, Clients
from gateway.node.slices import in_slices
from gateway.node.vitals import cpu_seconds, resident_bytes
from gateway.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Profile(NamedTuple):
    """A node's name and addresses, which do not change while it runs."""

    uid: NodeId
    name: str
    # Where clients and operators reach this particular node; empty when not configured.
    url: str = ""
    internal_address: str = ""


class Host(Protocol):
    """What a node asks of the process it runs in, which knows the settings and the listeners."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Digests of the settings that must be the same on all nodes."""

    def reload(self) -> Reloaded:
        """Reload the settings. Never raises."""

    def drain_clients(self) -> None:
        """Send the clients to other nodes over the next few seconds."""


class Administration:
    """Carries out control messages on this node's clients, and sends control messages to all nodes.

    Implements the control-message part of the broker's Receiver port.
    """

    def __init__(
        self,
        profile: Profile,
        host: Host,
        *,
        clients: Clients,
        hub: Hub[Client],
        broker: Broker,
        registry: Registry,
        revocations: Revocations,
        scheduler: Scheduler,
        guard: Guard,
    ) -> None:
        self.profile = profile
        self._host = host
        self._clients = clients
        self._hub = hub
        self._broker = broker
        self._registry = registry
        self._revocations = revocations
        self._scheduler = scheduler
        self._draining = False
        self._started_at = int(time.time())
        self._announcements = Announcements(
            registry,
            revocations,
            self.info,
            self._learned,
            lambda: self.control(LearnRevocations()),
            guard,
            lambda: not broker.health().ok,
        )

    async def start(self) -> None:
        """Register with the cluster. Raises BrokerUnavailable."""
        await self._announcements.start()

    async def stop(self) -> None:
        """Unregister from the cluster."""
        await self._announcements.stop()

    @property
    def draining(self) -> bool:
        """Whether new clients should be sent to other nodes."""
        return self._draining

    def start_draining(self) -> None:
        """Report not ready from now on; the caller decides what happens to the clients."""
        self._draining = True

    def info(self) -> NodeInfo:
        """What this node reports about itself."""
        return NodeInfo(
            uid=self.profile.uid,
            name=self.profile.name,
            version=__version__,
            started_at=self._started_at,
            url=self.profile.url,
            internal_address=self.profile.internal_address,
            num_clients=len(self._clients),
            num_users=self._clients.num_users,
            num_subs=self._hub.num_subscriptions,
            num_channels=self._hub.num_channels,
            draining=self.draining,
            bus=int.from_bytes(VERSION),
            settings=dict(self._host.digests),
            cpu_seconds=cpu_seconds(),
            rss=resident_bytes(),
        )

    # Called by the broker

    async def catch_up(self) -> None:
        await self._announcements.learn()

    def on_control_lost(self) -> None:
        """Disconnects may have been missed, so disconnect every client; those still allowed reconnect."""
        logger.warning("cut off for too long: control messages may have been missed, so all clients must reconnect")
        in_slices(_ended(self._clients, INSUFFICIENT_STATE), self._scheduler)

    def end_reported(self, keys: Sequence[str]) -> None:
        """The application was told that these have ended, as this node did not respond: let it be so.

        `keys`: as of Notes in gateway.session. The clients reconnect.
        """
        clients = {each for key in keys if (each := self._clients.find(key.partition(":")[0])) is not None}
        logger.warning(
            "this node did not respond: connections reported as ended are closed", extra={"connections": len(clients)}
        )
        in_slices(_ended(clients, INSUFFICIENT_STATE), self._scheduler)

    def on_control(self, message: Control) -> Answer:
        match message:
            case DrainNode():
                return self._drain(message)
            case LearnRevocations():
                self._announcements.learn_soon()
                return 0
            case ReloadSettings():
                return self.reload() if message.uid in ("", self.profile.uid) else 0
            case DisconnectUser():
                return self._disconnect(message)
            case SubscribeUser():
                return _each(self._meant(message), lambda client: client.subscribe_by_server(message))
            case UnsubscribeUser():
                name, code = message.channel, UNSUBSCRIBED_BY_SERVER
                return _each(self._meant(message), lambda client: client.unsubscribe_by_server(name, code))
            case RefreshUser():
                expired, expire_at = message.expired, message.expire_at
                return _each(
                    self._meant(message), lambda client: client.refresh_by_server(expired=expired, expire_at=expire_at)
                )
            case RevokeTokens():
                return self._revoke(message)
            case KickUser():
                return self._kick(message)
            case _:
                assert_never(message)

    def reload(self) -> Reloaded:
        """Reload the settings, and announce to the other nodes which ones this node now uses."""
        reloaded = self._host.reload()
        self._announcements.announce_soon()
        return reloaded

    def _drain(self, message: DrainNode) -> int:
        if message.uid != self.profile.uid or self.draining:
            return 0
        self.start_draining()
        logger.warning("draining: the clients are sent to other nodes", extra={"connections": len(self._clients)})
        self._host.drain_clients()
        return len(self._clients)

    def _learned(self, revoked: Revocation) -> None:
        """Apply a revocation that this node missed: it was cut off at the time, or started without the cluster."""
        if revoked.channel:
            kicked = _kick_message(revoked)
            if connections := self._end_kicked(kicked, late=True):
                _log_kicked(kicked, connections)
            return
        message = RevokeTokens(revoked.app, revoked.user, revoked.jti, revoked.issued_before)
        # (A node that starts learns all there are.)
        if connections := self._close_revoked(message):
            _log_revoked(message, connections)

    def _meant(self, message: DisconnectUser | SubscribeUser | UnsubscribeUser | RefreshUser) -> Iterable[Client]:
        """This node's clients that the message addresses."""
        return self._clients.select(User(message.app, message.user), message.client)

    def _disconnect(self, message: DisconnectUser) -> int:
        code = CloseCode(message.code, message.reason)
        chosen = [client for client in self._meant(message) if client.client not in message.whitelist]
        in_slices(_ended(chosen, code), self._scheduler)
        return len(chosen)

    def _revoke(self, message: RevokeTokens) -> int:
        self._revocations.add(
            Revocation(message.app, message.user, message.jti, message.issued_before, message.expire_at)
        )
        if message.user:
            # Close all connections of the user: the clock of a signer may be ahead. Clients that have a newer token, as
            # when this message comes late, may come back.
            message = structs.replace(message, issued_before=END_OF_TIME)
        connections = self._close_revoked(message)
        _log_revoked(message, connections)
        return connections

    def _close_revoked(self, message: RevokeTokens) -> int:
        chosen = self._clients.select(User(message.app, message.user), "") if message.user else self._clients
        return _each(chosen, lambda client: client.revoke(message))

    def _kick(self, message: KickUser) -> int:
        self._revocations.add(
            Revocation(
                message.app,
                message.user,
                issued_before=message.issued_before,
                expire_at=message.expire_at,
                channel=message.channel,
            )
        )
        connections = self._end_kicked(message, late=False)
        _log_kicked(message, connections)
        return connections

    def _end_kicked(self, message: KickUser, *, late: bool) -> int:
        chosen = self._clients.select(User(message.app, message.user), "")
        return _each(chosen, lambda client: client.kick(message, late=late))

    # To the cluster

    async def control(self, message: Control) -> ControlResult:
        """Carry out a control message on every node. Raises BrokerUnavailable or OutcomeUnknown."""
        return await self._broker.control(message)

    async def revoke(self, revocation: Revocation, ahead: int) -> tuple[Revocation, ControlResult]:
        """Refuse the tokens on every node from now on, and close the connections and subscriptions that use them.

        With a channel, end the user's subscriptions to it, whatever opened them, and no connections. For a user, this
        covers all tokens issued until `ahead` seconds from now, whatever `issued_before` says. Returns the revocation
        that is in force. Raises BrokerUnavailable or OutcomeUnknown.
        """
        stored = await self._registry.revoke(revocation, ahead=ahead if revocation.user else None)
        if stored.channel:
            return stored, await self._broker.control(_kick_message(stored))
        message = RevokeTokens(stored.app, stored.user, stored.jti, stored.issued_before, stored.expire_at)
        return stored, await self._broker.control(message)

    async def nodes(self) -> list[NodeInfo]:
        """All live nodes."""
        return await self._registry.nodes()

    async def occupied_channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        """As Registry.channels."""
        return await self._registry.channels(app, pattern, limit, cursor)


def _log_revoked(message: RevokeTokens, connections: int) -> None:
    whose = {"user": message.user} if message.user else {"jti": message.jti}
    logger.info("tokens revoked; connections that used them are closed", extra={**whose, "connections": connections})


def _kick_message(kick: Revocation) -> KickUser:
    return KickUser(kick.app, kick.user, kick.channel, kick.issued_before, kick.expire_at)


def _log_kicked(message: KickUser, connections: int) -> None:
    extra = {"user": message.user, "channel": message.channel, "connections": connections}
    logger.info("user kicked from a channel; subscriptions to it have ended", extra=extra)


def _ended(clients: Iterable[Client], code: CloseCode) -> Iterator[None]:
    """Disconnect the clients, in one step per client and one per channel: leaving a channel takes 8 us."""
    for client in clients:
        channels = client.num_channels
        try:
            client.disconnect(code)
        except Exception:
            client.fail("control")
        yield from repeat(None, 1 + channels)


def _each(clients: Iterable[Client], act: Callable[[Client], object]) -> int:
    """Call `act` on each client separately; returns how many calls neither returned False nor raised."""
    count = 0
    for client in clients:
        try:
            count += act(client) is not False
        except Exception:
            client.fail("control")
    return count
