"""The entrances for clients, one file each: a path, a transport, a wire protocol, and how a session begins.

An entrance is data; `doors.py` turns entrances into routes. May import all but `api`, `app` and `cli`.
"""

from gateway.entrances.centrifuge_stream import CENTRIFUGE_HTTP_STREAM, CENTRIFUGE_SSE
from gateway.entrances.centrifuge_websocket import CENTRIFUGE_WEBSOCKET
from gateway.entrances.plain_websocket import PLAIN_WEBSOCKET
from gateway.entrances.sse import SSE
from gateway.entrances.unidirectional import UNI_HTTP_STREAM, UNI_SSE, UNI_WEBSOCKET

# The first one whose path matches serves the request: the busiest come first.
ENTRANCES = (
    CENTRIFUGE_WEBSOCKET,
    PLAIN_WEBSOCKET,
    SSE,
    CENTRIFUGE_SSE,
    CENTRIFUGE_HTTP_STREAM,
    UNI_WEBSOCKET,
    UNI_SSE,
    UNI_HTTP_STREAM,
)
