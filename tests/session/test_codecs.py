"""Codecs with state: numbers of their own, requests in several parts, several requests in one command."""

from collections.abc import Sequence

import pytest

from gateway import errors
from gateway.errors import CloseCode, ErrorCode
from gateway.hub.encoder import Encoder
from gateway.messages import Connect, ConnectResult, Publish, Request, Subscribe, SubscribeResult
from gateway.protocols.one_channel import OneChannel
from gateway.protocols.wire_protocol import Message
from tests.fakes import PlainFraming
from tests.session.conftest import Client, World, lines


class WordsCodec(OneChannel):
    """`connect`; `join N CHANNEL...` with one answer for all; `say CHANNEL` and then another message with the data.

    Commands are separated by `;`. Its numbers are those of the client, which say nothing of the session's.
    """

    def __init__(self) -> None:
        self._next_id = 0
        self._joins: dict[int, tuple[str, list[str]]] = {}
        self._open: tuple[str, list[str], set[int]] = ("", [], set())
        self._unsaid = ""

    def count(self, data: bytes) -> int:
        return data.count(b";") + 1

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        end = data.find(b";", start)
        return (data[start:], len(data)) if end < 0 else (data[start:end], end + 1)

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        if self._unsaid:
            channel, self._unsaid = self._unsaid, ""
            return (Publish(self._id(), channel, command),)
        name, *words = command.decode().split()
        if name == "connect":
            return (Connect(self._id()),)
        if name == "say":
            self._unsaid = words[0]
            return ()
        requests = [Subscribe(self._id(), channel) for channel in words[1:]]
        self._open = (words[0], [], {request.id for request in requests})
        return requests

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        return (Message(b"hello"),)

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        return self._joined(id, channel)

    def published(self, id: int) -> Sequence[Message]:
        return (Message(b"said"),)

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:  # type: ignore[override]
        return self._joined(id, f"!{error.code}")

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        return (Message(b"bye %d" % code.code),)

    def _joined(self, id: int, outcome: str) -> Sequence[Message]:
        number, outcomes, missing = self._open
        outcomes.append(outcome)
        missing.discard(id)
        return () if missing else (Message(f"joined {number} {' '.join(outcomes)}".encode()),)

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id


class Words(OneChannel):
    """A protocol whose connections have codecs of their own."""

    def open(self) -> WordsCodec:
        return WordsCodec()


@pytest.fixture
def client(world: World) -> Client:
    made = Client(world, Encoder(Words(), PlainFraming(lines)))
    made.raw(b"connect")
    assert said(made) == [b"hello"]
    return made


def said(client: Client) -> list[bytes]:
    client.session.out.uncork()
    return client.transport.take().splitlines()


def test_one_command_may_be_several_requests_with_one_answer(client: Client) -> None:
    client.raw(b"join 7 news closed:x sport")
    assert said(client) == [b"joined 7 news !103 sport"]
    assert list(client.session.subs) == ["news", "sport"]


def test_the_requests_of_a_command_come_before_the_next_command(world: World, client: Client) -> None:
    """In one message, and while they wait for the broker."""
    world.broker.hold = True
    client.raw(b"join 1 a b;join 2 c")
    world.broker.hold = False
    world.broker.release()
    world.scheduler.run()
    assert list(client.session.subs) == ["a", "b", "c"]


def test_a_request_may_come_in_several_messages(world: World, client: Client) -> None:
    client.raw(b"say news")
    assert said(client) == []
    client.raw(b'"hi; there"'.replace(b";", b","))
    assert said(client) == [b"said"]
    assert [publication.data for publication, _ in world.broker.published] == [b'"hi, there"']


def test_a_request_may_come_in_several_commands_of_a_message(world: World, client: Client) -> None:
    client.raw(b'say news;"a";say news;"b"')
    assert said(client) == [b"said", b"said"]


def test_binary_messages_are_cut_too(world: World, client: Client) -> None:
    client.raw(b'say news;"a"', binary=True)
    assert said(client) == [b"said"]


def test_connections_do_not_share_it(world: World, client: Client) -> None:
    other = Client(world, Encoder(Words(), PlainFraming(lines)))
    client.raw(b"say news")
    other.raw(b"connect")
    assert said(other) == [b"hello"]


def test_the_last_word_is_that_of_the_codec(client: Client) -> None:
    """Also where the transport tells the code by itself."""
    client.session.disconnect(errors.FORCE_DISCONNECT)
    assert client.transport.take() == b"bye 3503\n"


def test_all_requests_of_a_command_are_paid_for(world: World, client: Client) -> None:
    """Many in one command are no cheaper than many commands: reading rests."""
    limit = world.settings.limits.commands_per_second
    client.raw(b"join 1 " + b" ".join(b"c%d" % number for number in range(2 * limit)))
    assert not client.transport.reading
