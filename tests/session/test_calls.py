"""Messages for the application: with an answer, with an error, without either."""

from collections.abc import Callable

import pytest

from gateway import errors
from gateway.errors import PERMISSION_DENIED, RequestError
from gateway.messages import ClientInfo
from tests.session.conftest import Client, World

Done = Callable[[bytes | RequestError], None]


class Application:
    """Keeps what it is asked; the test answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[ClientInfo, str, bytes, Done]] = []

    def call(self, client: ClientInfo, event: str, data: bytes, done: Done) -> None:
        self.calls.append((client, event, data, done))

    def answer(self, outcome: bytes | RequestError) -> None:
        self.calls.pop(0)[3](outcome)


@pytest.fixture
def application(world: World) -> Application:
    world.services.application = application = Application()
    return application


@pytest.fixture
def client(world: World) -> Client:
    return world.connect("ann")


def test_the_application_hears_who_asks_and_answers(client: Client, application: Application) -> None:
    """Others have their turn meanwhile."""
    call = {"id": 5, "rpc": {"method": "sum", "data": [1, 2]}}
    assert client.send(call, {"id": 6, "publish": {"channel": "news", "data": 1}}) == [{"id": 6, "publish": {}}]
    info, event, data, _ = application.calls[0]
    assert (info.user, info.client, event, data) == ("ann", client.session.client, "sum", b"[1, 2]")
    application.answer(b"3")
    assert client.got() == [{"id": 5, "rpc": {"data": 3}}]


def test_an_error_is_the_reply(client: Client, application: Application) -> None:
    client.send({"id": 5, "rpc": {"method": "sum"}})
    application.answer(RequestError(PERMISSION_DENIED))
    assert client.got() == [{"id": 5, "error": {"code": 103, "message": "permission denied"}}]


def test_a_message_without_an_answer_gets_none(client: Client, application: Application) -> None:
    client.send({"send": {"data": "hi"}})
    assert application.calls[0][1:3] == ("", b'"hi"')
    application.answer(b"ignored")
    assert client.got() == []
    assert client.closed_with() is None


def test_a_message_that_nobody_heard_closes(client: Client, application: Application) -> None:
    """There is no reply that could say so."""
    client.send({"send": {"data": "hi"}})
    application.answer(RequestError(PERMISSION_DENIED))
    assert client.closed_with() == errors.NO_HANDLER


def test_an_answer_that_comes_too_late_goes_nowhere(client: Client, application: Application) -> None:
    client.send({"id": 5, "rpc": {"method": "sum"}})
    client.session.closed(1006, "")
    application.answer(b"3")
    assert client.got() == []


def test_an_application_that_fails_closes_the_connection(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 3004, after which clients come back; nobody else notices."""
    other = world.connect("bob")

    class Broken(Application):
        def call(self, client: ClientInfo, event: str, data: bytes, done: Done) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(world.services, "application", Broken())
    client.send({"id": 5, "rpc": {"method": "sum"}})
    assert client.closed_with() == errors.SERVER_ERROR
    assert other.closed_with() is None
