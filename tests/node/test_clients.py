"""The clients of a node: found by connection and by user, and only together."""

import random

from gateway.control import KickUser, RevokeTokens, SubscribeUser
from gateway.errors import CloseCode, UnsubscribeCode
from gateway.messages import ClientId, ClientInfo, User
from gateway.node.clients import Clients
from tests.fakes import Faultless

ADA = User("default", "ada")


class Someone(Faultless):
    """A client of whom nothing is asked; `leaves` is what happens when it is disconnected."""

    def __init__(self, id: str, user: User = ADA) -> None:
        self.client = ClientId(id)
        self.user = user
        self.clients: Clients | None = None

    @property
    def num_channels(self) -> int:
        return 3

    def member(self, name: str) -> ClientInfo:
        raise NotImplementedError

    def shutdown(self) -> None:
        raise NotImplementedError

    def disconnect(self, code: CloseCode) -> None:
        assert self.clients is not None
        self.clients.remove(self)

    def subscribe_by_server(self, message: SubscribeUser) -> None: ...

    def unsubscribe_by_server(self, name: str, code: UnsubscribeCode) -> bool:
        return False

    def refresh_by_server(self, *, expired: bool, expire_at: int) -> None: ...

    def revoke(self, revoked: RevokeTokens) -> bool:
        return False

    def kick(self, kicked: KickUser, *, late: bool) -> bool:
        return False


def filled(*members: Someone) -> Clients:
    clients = Clients(lambda: 0.0)
    for member in members:
        member.clients = clients
        clients.add(member)
    return clients


def test_connections_are_counted_by_user() -> None:
    """A user of the same name in another app is somebody else."""
    first, second, elsewhere = Someone("1"), Someone("2"), Someone("3", User("another", "ada"))
    clients = filled(first, second, elsewhere)
    assert (len(clients), clients.num_users) == (3, 2)
    assert [clients.connections(user) for user in (ADA, elsewhere.user, User("default", "bob"))] == [2, 1, 0]
    clients.remove(first)
    assert (clients.connections(ADA), clients.num_users) == (1, 2)
    clients.remove(second)
    assert (clients.connections(ADA), clients.num_users) == (0, 1)


def test_all_may_leave_while_they_are_walked_through() -> None:
    """Whoever closes the clients of a user, or all of them, changes what it walks through."""
    for choose in (lambda clients: clients.select(ADA, ""), iter):
        clients = filled(*(Someone(str(number)) for number in range(5)))
        for client in choose(clients):
            client.disconnect(CloseCode(3000, ""))
        assert (len(clients), clients.num_users) == (0, 0)


def test_an_anonymous_client_is_found_by_its_id_only() -> None:
    nobody = User("default", "")
    clients = filled(Someone("1", nobody), Someone("2", nobody))
    assert list(clients.select(nobody, "")) == []
    assert [client.client for client in clients.select(nobody, "2")] == ["2"]
    assert (clients.connections(nobody), clients.num_users) == (0, 0)


def test_any_order_of_coming_and_going_leaves_nothing() -> None:
    """With a seed; removing twice, or somebody who never came, changes nothing."""
    chance = random.Random(3)
    everybody = [Someone(str(number), User("default", str(number % 7 or ""))) for number in range(40)]
    clients, there = Clients(lambda: 0.0), set[Someone]()
    for _ in range(500):
        client = chance.choice(everybody)
        if client in there or not chance.randrange(4):
            clients.remove(client)
            there.discard(client)
        else:
            clients.add(client)
            there.add(client)
        assert set(clients) == there
        assert clients.num_users == len({client.user for client in there if client.user.name})
    for client in everybody:
        clients.remove(client)
    assert (len(clients), clients.num_users) == (0, 0)
