"""Callbacks for the outcome of something that a request of a session waits for."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from gateway.errors import Disconnect, RequestError
from gateway.session.inbox import Inbox, Work
from gateway.session.state import State

T = TypeVar("T")

# Why a request is not carried out.
Failure: TypeAlias = RequestError | Disconnect
FAILURES = (RequestError, Disconnect)


class Waiting(Protocol):
    """What the session has to offer."""

    state: State
    inbox: Inbox

    def give_up(self, request: Work, error: Failure) -> None:
        """The request cannot be carried out: answer it with the error, or close the connection."""

    def fail(self, part: str) -> None:
        """A caught fault kept something from the client."""


def completion(
    session: Waiting,
    request: Work,
    proceed: Callable[[T], bool | None],
    failed: Callable[[Failure], object] | None,
    abandoned: Callable[[T | Failure], object] | None,
) -> Callable[[T | Failure], None]:
    """As Session.then."""
    state = session.state

    def completed(outcome: T | Failure) -> None:
        try:
            if session.state is not state:
                if abandoned is not None:
                    abandoned(outcome)
                return
            error: Failure | None = None
            if isinstance(outcome, FAILURES):
                error = outcome
            else:
                try:
                    if proceed(outcome):
                        return
                except FAILURES as raised:
                    error = raised
            if error is not None:
                error.detach()
                if failed is not None:
                    failed(error)
                else:
                    session.give_up(request, error)
            session.inbox.unblock(request)
        except Exception:
            session.fail("completion")

    return completed
