"""The clients connected to this node, by connection and by user."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from gateway.auth.rate_limits import Share
from gateway.control import KickUser, RevokeTokens, SubscribeUser
from gateway.errors import CloseCode, UnsubscribeCode
from gateway.messages import ClientId, ClientInfo, User


class Client(Protocol):
    """What the node may ask of an authenticated session."""

    @property
    def client(self) -> ClientId: ...

    @property
    def user(self) -> User: ...

    @property
    def num_channels(self) -> int:
        """Its subscriptions, including those in progress."""

    def member(self, name: str) -> ClientInfo:
        """Its identity as a member of a channel."""

    def write_failed(self) -> None:
        """As Subscriber.write_failed in the hub."""

    def fail(self, part: str) -> None:
        """A caught fault kept something from the client: close the connection so that it asks again."""

    def disconnect(self, code: CloseCode) -> None:
        """Close the connection."""

    def shutdown(self) -> None:
        """Close the connection with a code that makes the client reconnect, to another node."""

    def subscribe_by_server(self, message: SubscribeUser) -> None:
        """Subscribe the connection and tell the client, after the requests in progress."""

    def unsubscribe_by_server(self, name: str, code: UnsubscribeCode) -> bool:
        """End one subscription (all of them when `name` is empty) and tell the client; False if there was none."""

    def refresh_by_server(self, *, expired: bool, expire_at: int) -> None:
        """Change when the connection expires (Unix seconds, 0 for never)."""

    def revoke(self, revoked: RevokeTokens) -> bool:
        """End what relies on revoked tokens: the connection, or a channel an earlier token opened. False if nothing."""

    def kick(self, kicked: KickUser, *, late: bool) -> bool:
        """End the subscription to the channel, also one in progress; False if there was none.

        `late`: what was opened after the kick, or may have been, ends so that the client asks again, or stays.
        """


class _Account:
    """The connections of one user, and the rate limits they share (created on first use)."""

    __slots__ = ("clients", "share")

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.share: Share | None = None


class Clients:
    """All authenticated clients of the node."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` tells monotonic seconds."""
        self._clock = clock
        self._by_id: dict[str, Client] = {}
        # Anonymous clients have no user to be addressed by and are not listed here.
        self._by_user: dict[User, _Account] = {}
        # Users who left, so that reconnecting does not give them a fresh share within the same second.
        self._left: dict[User, _Account] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._by_id.values()))

    @property
    def num_users(self) -> int:
        return len(self._by_user)

    def add(self, client: Client) -> None:
        self._by_id[client.client] = client
        if client.user.name:
            account = self._by_user.get(client.user)
            if account is None:
                self._forget()
                account = self._by_user[client.user] = self._left.pop(client.user, _Account())
            account.clients.add(client)

    def remove(self, client: Client) -> None:
        """Forget a client; one that was never added is ignored."""
        if self._by_id.pop(client.client, None) is None or not client.user.name:
            return
        account = self._by_user[client.user]
        account.clients.remove(client)
        if not account.clients:
            del self._by_user[client.user]
            self._left[client.user] = account
            self._forget()

    def _forget(self) -> None:
        """Forget users who left and whose share has refilled."""
        now = self._clock()
        while self._left:
            user, account = next(iter(self._left.items()))
            del self._left[user]
            if account.share is not None and not account.share.is_whole(now):
                # Others' shares may refill sooner: move this one to the end.
                self._left[user] = account
                break

    def connections(self, user: User) -> int:
        """Connections of a user on this node."""
        return len(self._of(user))

    def channels(self, user: User) -> int:
        """Channels of a user on this node, over all its connections."""
        return sum(client.num_channels for client in self._of(user))

    def share(self, user: User, *, subscribes: int, publishes: int) -> Share:
        """The user's shared rate limits, set to these values from now on; each anonymous client has its own."""
        account = self._by_user.get(user)
        if account is None:
            return Share(subscribes, publishes)
        if account.share is None:
            account.share = Share(subscribes, publishes)
        elif not account.share.has(subscribes, publishes):
            # A reload has changed the limits.
            account.share.limit(subscribes, publishes)
        return account.share

    def _of(self, user: User) -> Collection[Client]:
        account = self._by_user.get(user)
        return account.clients if account is not None else ()

    def find(self, client: str) -> Client | None:
        """The client with this id, if it is here."""
        return self._by_id.get(client)

    def select(self, user: User, client: str) -> Iterable[Client]:
        """The user's connections, or only the one with this client id. Safe to disconnect while iterating."""
        if not client:
            return list(self._of(user))
        found = self._by_id.get(client)
        return [found] if found is not None and found.user == user else []
