"""What sessions note for the application: what began ends exactly once, however it ends."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.broker.memory.memory_events import MemoryEvents
from gateway.errors import INSUFFICIENT_STATE, SHUTDOWN, UNSUBSCRIBED_BY_SERVER, RequestError
from gateway.hooks.decisions import Admitted, Application, Asks, Done, Opened
from gateway.hooks.events import META_BYTES, DisconnectEvent, ended
from gateway.hooks.questions import ConnectRequest
from gateway.metrics import Metrics
from gateway.session.notes import Notes
from tests.session.conftest import Client, World


def unasked(event: Any, done: Done[None]) -> None:
    raise NotImplementedError


class Noted:
    """A world whose application hears of ends: of all connections, and of subscriptions in `room`."""

    def __init__(self, make_world: Callable[..., World], application: Application | None = None) -> None:
        self.events = MemoryEvents(Metrics())
        self.world = make_world(
            namespaces={"room": {"allow_subscribe": ["client"]}, "other": {"allow_subscribe": ["client"]}}
        )
        application = application or Application(disconnect=unasked, unsubscribe=Asks({"room": unasked}))
        self.world.services.application = application
        self.world.services.notes = Notes(self.events, application)

    def member(self) -> Client:
        return self.world.subscriber("room:1", "other:1", user="ann")

    def told(self) -> list[tuple[str, int]]:
        """What has ended since the last call: channels, or empty for a connection; with the codes."""
        found = []
        for each in asyncio.run(self.events.take(100, 100)):
            assert each.ending is not None
            event = ended(each.id, each.time, each.about, *each.ending)
            assert event.user == "ann"
            found.append(("" if isinstance(event, DisconnectEvent) else event.channel, event.code))
        return found


@pytest.fixture
def noted(make_world: Callable[..., World]) -> Noted:
    return Noted(make_world)


ENDS: list[tuple[Callable[[Client], object], int]] = [
    (lambda client: client.session.closed(1001, "going away"), 3000),
    (lambda client: client.session.disconnect(errors.FORCE_DISCONNECT), 3503),
    (lambda client: client.session.shutdown(), SHUTDOWN.code),
    (lambda client: client.raw(b"{"), errors.BAD_COMMAND.code),
    (lambda client: client.session.fail("test"), errors.SERVER_ERROR.code),
]


@pytest.mark.parametrize(("end", "code"), ENDS, ids=["client", "api", "drain", "refused", "fault"])
def test_a_connection_ends_with_its_subscriptions(noted: Noted, end: Callable[[Client], object], code: int) -> None:
    """Subscriptions first; those that nobody asked for are not told."""
    client = noted.member()
    assert noted.told() == []
    end(client)
    client.session.closed(1006, "")
    client.session.disconnect(errors.FORCE_DISCONNECT)
    assert noted.told() == [("room:1", 1), ("", code)]


def test_a_subscription_ends_alone(noted: Noted) -> None:
    """As often as it begins; and not with the connection once more."""
    client = noted.member()
    client.send({"id": 9, "unsubscribe": {"channel": "room:1"}})
    client.send({"id": 10, "subscribe": {"channel": "room:1"}})
    assert noted.told() == [("room:1", 0)]
    client.session.unsubscribe_by_server("room:1", UNSUBSCRIBED_BY_SERVER)
    assert noted.told() == [("room:1", 2000)]
    client.send({"id": 11, "unsubscribe": {"channel": "room:1"}})
    client.session.disconnect(INSUFFICIENT_STATE)
    assert noted.told() == [("", 3010)]


def test_who_did_not_connect_or_join_is_not_told(noted: Noted) -> None:
    client = noted.world.open()
    client.send({"id": 1, "connect": {"token": "x"}})
    client.session.disconnect(errors.FORCE_DISCONNECT)
    client = noted.member()
    client.send({"id": 9, "subscribe": {"channel": "nope:1"}})
    client.session.disconnect(errors.FORCE_DISCONNECT)
    assert noted.told() == [("room:1", 1), ("", 3503)]


@pytest.mark.parametrize("user", ["ann", None])
def test_who_is_gone_when_the_connect_hook_lets_it_in_is_told(
    make_world: Callable[..., World], user: str | None
) -> None:
    """The application may count it as connected. Not so if it is refused."""
    asked: list[Done[Any]] = []
    noted = Noted(make_world, Application(connect=lambda request, done: asked.append(done), disconnect=unasked))
    for outcome in (Admitted(user, None, b"", None, {}, {"a": 1}), RequestError(errors.PERMISSION_DENIED)):
        client = noted.world.open()
        client.send({"id": 1, "connect": {"token": noted.world.token("ann")} if user is None else {}})
        client.session.closed(1006, "")
        assert noted.told() == []
        asked.pop()(outcome)
        assert noted.told() == ([("", 3000)] if isinstance(outcome, Admitted) else [])


def test_whom_the_connect_hook_lets_in_and_something_else_refuses_is_told(make_world: Callable[..., World]) -> None:
    """Once its connection has ended: here, since the hook opens a channel that does not exist."""

    def connect(request: ConnectRequest, done: Done[Any]) -> None:
        done(Admitted("ann", None, b"", None, {"nope:1": Opened(b"", b"")}, None))

    noted = Noted(make_world, Application(connect=connect, disconnect=unasked))
    client = noted.world.open()
    client.send({"id": 1, "connect": {}})
    assert noted.told() == []
    client.session.closed(1006, "")
    assert noted.told() == [("", 3000)]


@pytest.mark.parametrize("meta", [object(), "x" * META_BYTES], ids=["object", "long"])
def test_what_cannot_be_kept_is_refused_at_the_connect(make_world: Callable[..., World], meta: Any) -> None:
    """The reason is in the log; the client may try again."""

    def connect(request: ConnectRequest, done: Done[Any]) -> None:
        done(Admitted("ann", None, b"", None, {}, meta))

    noted = Noted(make_world, Application(connect=connect, disconnect=unasked))
    (reply,) = noted.world.open().send({"id": 1, "connect": {}})
    assert reply["error"]["code"] == 100
    assert noted.told() == []
