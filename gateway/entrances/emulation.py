"""Sessions whose clients get messages over one HTTP response, and send them in requests of their own (emulation)."""

from gateway.entrances.directory import Answer, Directory
from gateway.session.session import Session
from gateway.session.state import State
from gateway.session.transport import Transport

# Bytes that may wait for one session to take them, as much as one read of a socket brings.
MOST_WAITING = 256 * 1024

# How requests of this kind begin: other connections have secrets, too.
MESSAGE = b"m"

TAKEN = 204
MALFORMED = 400
UNKNOWN = 404
FULL = 503


class Emulated:
    """The Connection port of a session that its client names by its secret."""

    __slots__ = ("_directory", "_first", "_is_binary", "session")

    def __init__(self, session: Session, directory: Directory, first: bytes, *, is_binary: bool) -> None:
        """`session` has a secret. `first`: what the client sent with its request, a message; `is_binary`: whether its
        messages are.
        """
        self.session = session
        self._directory = directory
        self._first = first
        self._is_binary = is_binary

    def opened(self, transport: Transport) -> None:
        first, self._first = self._first, b""
        self.session.opened(transport)
        self._directory.opened(self)
        self.session.received(first, binary=self._is_binary)

    @property
    def secret(self) -> str:
        """As in the Addressed port."""
        return self.session.secret

    def asked(self, request: bytes, answer: Answer) -> None:
        """As in the Addressed port. The request is a message behind MESSAGE; the answer is the status, in digits."""
        answer(b"%d" % (self._take(request[1:]) if request.startswith(MESSAGE) else UNKNOWN))

    def _take(self, data: bytes) -> int:
        if self.session.state is State.CLOSED:
            # The client has not read the end of its response yet.
            return UNKNOWN
        if self.session.inbox.held + len(data) > MOST_WAITING:
            return FULL
        if not self._is_binary:
            try:
                data.decode()
            except UnicodeDecodeError:
                return MALFORMED
        self.session.received(data, binary=self._is_binary)
        return TAKEN

    def received(self, data: bytes, *, binary: bool) -> None:
        """Not called: what the client sends does not come over this transport."""

    def ponged(self) -> None:
        self.session.ponged()

    def pause_writing(self) -> None:
        self.session.pause_writing()

    def resume_writing(self) -> None:
        self.session.resume_writing()

    def closed(self, code: int, reason: str) -> None:
        self._directory.closed(self.session.secret)
        self.session.closed(code, reason)

    def shed(self) -> None:
        self.session.shed()

    def shutdown(self) -> None:
        self.session.shutdown()


def status_of(answer: bytes | None) -> int:
    """The HTTP status in the answer of a node, which may be of another version."""
    if answer is None:
        return UNKNOWN
    statuses = {b"%d" % status: status for status in (TAKEN, MALFORMED, UNKNOWN, FULL)}
    return statuses.get(answer, FULL)
