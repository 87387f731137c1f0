"""What all attackers share: where they attack, and what they got through."""

import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from gateway.tokens import connection_token
from tests.attack.site import SECRET
from tests.transports.raw import masked

Address = tuple[str, int]

WEBSOCKET_PATH = "/connection/websocket"
CONTINUATION, TEXT = 0x0, 0x1
USER = "mallory"


@dataclass
class Tally:
    """What an attacker got through."""

    connections: int = 0
    # Connections that were not opened, or opened with another answer than 101.
    refused: int = 0
    messages: int = 0
    bytes: int = 0
    # Of the kind that the attacker looks for.
    answers: int = 0
    seconds: float = 0.0


class Attacker(ABC):
    """One hostile client in a process of its own."""

    # Lines that the node's settings get, above all tables.
    settings: ClassVar[str] = ""
    # Whether the others are hindered from coming in, rather than slowed down.
    bars_the_door: ClassVar[bool] = False

    def __init__(self, address: Address) -> None:
        self.address = address
        self.tally = Tally()

    def prepare(self) -> None:  # noqa: B027  # most have nothing to prepare
        """What comes before the measurement."""

    @abstractmethod
    def attack(self, deadline: float) -> None:
        """At full speed until this monotonic time."""

    @classmethod
    def note(cls, tally: Tally) -> str:
        """What else the table has to say."""
        return f"{tally.refused:,} refused" if tally.refused else ""

    def run(self, seconds: float) -> None:
        """Attack, and keep the time."""
        start = time.monotonic()
        self.attack(start + seconds)
        self.tally.seconds = time.monotonic() - start


def command(number: int = 2, **body: object) -> bytes:
    """A command in a frame of its own."""
    return masked(TEXT, json.dumps({"id": number, **body}, separators=(",", ":")).encode())


def hello() -> bytes:
    """The connect of an authenticated client."""
    return command(1, connect={"token": connection_token(SECRET, USER)})
