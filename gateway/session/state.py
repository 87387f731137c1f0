"""The states of a session."""

import enum


class State(enum.Enum):
    """From the open socket to its end. REFUSED leads only to CLOSED, which is final."""

    OPENING = "waits for connect"
    CONNECTING = "connect is under way"
    CONNECTED = "connect is answered"
    REFUSED = "connect was answered with an error"
    CLOSED = "closed"
