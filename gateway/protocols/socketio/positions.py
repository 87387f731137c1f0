"""Where a client of Socket.IO stands in its rooms: the offset at the end of each event, which it gives back when it
reconnects.

An offset is a text of its own, so that any node can read it, also after the one that wrote it has died:

    ROOM EPOCH OFFSET, for each room, with spaces in between; `ROOM - 0` for a room without a history

A client in a single room gets the same offsets as all others in it. One in several rooms gets its own.
"""

import re

from gateway.messages import Position, Publication

# Rooms whose positions are told. An offset of 16 rooms may have 5 KB, and goes with every event.
MOST_ROOMS = 16
# What is told in none and in more rooms: clients keep it, in place of an older one, and recover nothing from it.
NOWHERE = "-"

_OFFSET = re.compile(r"[0-9]{1,18}")
_NO_HISTORY = "-"


class Positions:
    """Those of one client, by room; None in rooms without a history."""

    __slots__ = ("_rooms",)

    def __init__(self) -> None:
        self._rooms: dict[str, Position | None] = {}

    def stand(self, room: str, position: Position | None) -> None:
        """The client is in a room, and has got everything up to this position."""
        self._rooms[room] = position

    def leave(self, room: str) -> None:
        """It is not any more."""
        self._rooms.pop(room, None)

    def get(self, publication: Publication) -> None:
        """It gets a publication, which may be of a channel that does not count: that of its own."""
        if publication.offset and publication.channel.name in self._rooms:
            self._rooms[publication.channel.name] = Position(publication.offset, publication.epoch)

    def __str__(self) -> str:
        """The offset."""
        if not 0 < len(self._rooms) <= MOST_ROOMS:
            return NOWHERE
        return " ".join(_text(room, position) for room, position in self._rooms.items())


def after(publication: Publication) -> str:
    """The offset of a client that is in no other room."""
    position = Position(publication.offset, publication.epoch) if publication.offset else None
    return _text(publication.channel.name, position)


def parse(offset: str) -> dict[str, Position | None] | None:
    """The rooms in an offset; None for a text that is none, which any last argument of an event may have been."""
    parts = offset.split(" ")
    if len(parts) % 3 or len(parts) > 3 * MOST_ROOMS:
        return None
    rooms: dict[str, Position | None] = {}
    for room, epoch, number in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if not room or not epoch or room in rooms or not _OFFSET.fullmatch(number):
            return None
        rooms[room] = None if epoch == _NO_HISTORY else Position(int(number), epoch)
    return rooms


def _text(room: str, position: Position | None) -> str:
    return f"{room} {_NO_HISTORY} 0" if position is None else f"{room} {position.epoch} {position.offset}"
