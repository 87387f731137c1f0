"""The ways in for clients, one file each: a path, what carries the connection, what is spoken there, how it begins.

An entrance is data; `doors.py` makes routes of them. May import all but `api`, `app` and `cli`.
"""

from gateway.entrances.centrifuge_websocket import CENTRIFUGE_WEBSOCKET
from gateway.entrances.plain_websocket import PLAIN_WEBSOCKET

# The first whose path matches serves: those that are asked for most stand first.
ENTRANCES = (CENTRIFUGE_WEBSOCKET, PLAIN_WEBSOCKET)
