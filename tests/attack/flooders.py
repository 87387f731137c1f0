"""Attackers that send WebSocket messages at full speed."""

import itertools
import os
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

from tests.attack.attacker import CONTINUATION, TEXT, Attacker, command, hello
from tests.attack.flood import Line, Piece, flood, websocket
from tests.transports.raw import masked

_LARGE = 256 * 1024
# What the default of limits.message_size takes, less the command around it.
_LONGEST = 65_000
# Commands written at once where each has a name of its own.
_BURST = 100


class GarbageAfterClose(Attacker):
    """Sends garbage without a token, ignores the close frame, and goes on with sound frames until it is cut off."""

    def attack(self, deadline: float) -> None:
        # RFC 6455 section 5.1: a server fails the connection on a frame that is not masked.
        opening = partial(websocket, self.address, b"\x81\x05hello")
        flood([Line(opening, _repeated(masked(TEXT, b"{}")), self.tally, reads=False)], deadline)


class Connected(Attacker):
    """An authenticated client that floods."""

    # Of one user.
    connections: ClassVar[int] = 1

    def attack(self, deadline: float) -> None:
        opening = partial(websocket, self.address, hello())
        flood([Line(opening, self.pieces(), self.tally) for _ in range(self.connections)], deadline)

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """What one connection writes, without end."""


class Fragments(Connected):
    """Messages of 1,000 fragments (limits.fragments allows 1,024): of one byte each, and empty ones, in turn."""

    def pieces(self) -> Iterator[Piece]:
        text = b'{"id":2,"unsubscribe":{"channel":"x"}}'
        tiny = text.ljust(1_000)
        return itertools.cycle(
            [
                Piece(_fragmented([tiny[place : place + 1] for place in range(len(tiny))]), 1),
                Piece(_fragmented([text, *[b""] * 999]), 1),
            ]
        )


class LargeReads(Connected):
    """Small sound commands in writes of 256 KiB, so that a read of the node brings thousands."""

    def pieces(self) -> Iterator[Piece]:
        return _repeated(command(unsubscribe={"channel": "x"}))


class Log(Connected):
    """Names that are refused, each as long as a message may be, made for the patterns that keep secrets out of logs.

    The log writes 5 lines a second for a client, and 50 for all: ten connections use that up.
    """

    connections = 10

    def pieces(self) -> Iterator[Piece]:
        names = [text * (_LONGEST // len(text)) for text in ("eyJ-", "token", "cookie: ", "[")]
        return itertools.cycle([Piece(command(subscribe={"channel": name}), 1) for name in names])


class KeysSubscribe(Connected):
    """Subscribes to new names of a recoverable namespace, and leaves them at once (limits.channels)."""

    namespace: ClassVar[str] = "kept"

    def pieces(self) -> Iterator[Piece]:
        for names in _new_names(self.namespace):
            commands = [command(subscribe={"channel": name}) + command(unsubscribe={"channel": name}) for name in names]
            yield Piece(b"".join(commands), 2 * len(commands))


class KeysLatest(KeysSubscribe):
    """The same where subscribers get the newest value of each key."""

    namespace = "latest"


class KeysHistory(Connected):
    """Reads the history of new names."""

    def pieces(self) -> Iterator[Piece]:
        for names in _new_names("kept"):
            yield Piece(b"".join(command(history={"channel": name, "limit": 1}) for name in names), len(names))


class SubscribeStorm(Connected):
    """Several connections of one user come into a channel with presence and leave it, again and again."""

    connections = 8

    def pieces(self) -> Iterator[Piece]:
        pair = command(subscribe={"channel": "present:room"}) + command(unsubscribe={"channel": "present:room"})
        return itertools.repeat(Piece(pair * _BURST, 2 * _BURST))


def _repeated(frame: bytes) -> Iterator[Piece]:
    count = _LARGE // len(frame)
    return itertools.repeat(Piece(frame * count, count))


def _fragmented(parts: list[bytes]) -> bytes:
    """One message, each part in a frame."""
    last = len(parts) - 1
    opcodes = [TEXT, *[CONTINUATION] * last]
    return b"".join(
        masked(opcode, part, fin=number == last)
        for number, (opcode, part) in enumerate(zip(opcodes, parts, strict=True))
    )


def _new_names(namespace: str) -> Iterator[list[str]]:
    """Of each connection others."""
    start = os.urandom(8).hex()
    for number in itertools.count(0, _BURST):
        yield [f"{namespace}:{start}-{number + place}" for place in range(_BURST)]
