"""Where a session stands."""

import enum


class State(enum.Enum):
    """From the open socket to its end. REFUSED and CLOSED are never left for another but CLOSED."""

    OPENING = "waits for connect"
    CONNECTING = "connect is under way"
    CONNECTED = "connect is answered"
    REFUSED = "connect was answered with an error"
    CLOSED = "closed"
