"""Requests for sessions: which node takes them, and what becomes of them."""

import asyncio
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from gateway.control import NodeId
from gateway.entrances.directory import Directory
from gateway.entrances.emulation import FULL, TAKEN, UNKNOWN, Emulated, status_of
from gateway.errors import BrokerUnavailable
from gateway.session.session import Session
from gateway.session.state import State

HERE, THERE = NodeId("0" * 16), NodeId("1" * 16)


class Wire:
    """What passes from one node to another."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.passed: list[tuple[NodeId, bytes]] = []
        self._answer = answer

    async def relay(self, node: NodeId, request: bytes, seconds: float) -> bytes | None:
        self.passed.append((node, request))
        return self._answer


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"204", TAKEN),
        (b"404", UNKNOWN),
        (None, UNKNOWN),
        (b"", UNKNOWN),
        (b"503", FULL),
        (b"200", FULL),
        (b"of the future", FULL),
    ],
)
def test_another_node_answers(answer: bytes | None, status: int) -> None:
    """One that is gone has no sessions. Nothing else than the known statuses reaches a client."""
    wire = Wire(answer)
    secret = Directory(THERE, wire.relay).new_secret()
    assert status_of(asyncio.run(Directory(HERE, wire.relay).ask(secret, b"{}"))) == status
    ((node, request),) = wire.passed
    assert (node, msgspec.msgpack.decode(request)) == (THERE, [secret, b"{}"])


@pytest.mark.parametrize("secret", ["", ".", "x" * 16 + "." + "A" * 22, THERE + ".", THERE + "." + "A" * 21 + "/"])
def test_what_no_node_made_is_passed_to_none(secret: str) -> None:
    """Anybody can send such requests, and Redis should not see them."""
    wire = Wire()
    assert asyncio.run(Directory(HERE, wire.relay).ask(secret, b"{}")) is None
    assert wire.passed == []


def test_this_node_asks_nobody_for_its_own() -> None:
    """A secret that begins with its name and is unknown here is unknown."""
    wire = Wire(b"204")
    directory = Directory(HERE, wire.relay)
    assert asyncio.run(directory.ask(directory.new_secret(), b"{}")) is None
    assert wire.passed == []


def test_a_node_that_is_not_reached() -> None:
    """The error of the broker is the caller's to tell."""

    async def relay(node: NodeId, request: bytes, seconds: float) -> bytes | None:
        raise BrokerUnavailable("cut off")

    with pytest.raises(BrokerUnavailable):
        asyncio.run(Directory(HERE, relay).ask(Directory(THERE, relay).new_secret(), b"{}"))


@pytest.mark.parametrize("request_", [b"", b"\xc1", msgspec.msgpack.encode(["x", 1]), b"\x91" * 2_000])
def test_what_another_version_passes_is_answered(request_: bytes) -> None:
    """Its client connects again."""
    answers: list[bytes] = []
    Directory(HERE, Wire().relay).on_relayed(request_, answers.append)
    assert answers == [b""]


def test_a_session_that_is_closed_takes_nothing() -> None:
    """Its client has not read the end of the response yet; the transport tells of the end only then."""
    directory = Directory(HERE, Wire().relay)
    session = cast(Session, SimpleNamespace(secret=directory.new_secret(), state=State.CLOSED))
    directory.opened(Emulated(session, directory, b"{}", is_binary=False))
    assert asyncio.run(directory.ask(session.secret, b"m{}")) == b"%d" % UNKNOWN


def test_secrets_differ() -> None:
    """And name their node."""
    directory = Directory(HERE, Wire().relay)
    secrets = {directory.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith(f"{HERE}.") and len(secret) == 39 for secret in secrets)
