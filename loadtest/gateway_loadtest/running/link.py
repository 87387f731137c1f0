"""What carries the messages of one connection, a WebSocket or HTTP, and what it needs of the client."""

from typing import Protocol

from gateway_loadtest.text import answered

# When a connection just broke (RFC 6455, section 7.1.5).
BROKEN = 1006


class NotConnected(Exception):
    """The other end does not let this client in; the text says why."""


class Link(Protocol):
    """An open connection."""

    def send(self, frame: bytes) -> None:
        """Nothing, when it is lost."""

    def end(self) -> None:
        """Break it, at once. `lost` follows."""

    def read(self, reading: bool) -> None:
        """Stop, or go on, reading from its socket."""


class Owner(Protocol):
    """The client. No method raises."""

    def connected(self, link: Link) -> bool:
        """Whether the link is wanted; its messages follow."""

    def ready_to_subscribe(self) -> None:
        """Called where no message of the server says so."""

    def receive(self, data: bytes) -> None:
        """A message, or several where the wire takes them so."""

    def lost(self, link: Link, code: int, reason: str) -> None:
        """The link is of no use any more."""

    def give_up(self, reason: str) -> None:
        """The other end is of no use. Ends the link."""


def refusal(what: str, status: int, body: bytes) -> str:
    """What a server said that did not give what was asked for."""
    hint = "; is the path right?" if status == 404 else ""
    return f"the server refused {what} with {answered(status, body)}{hint}"
