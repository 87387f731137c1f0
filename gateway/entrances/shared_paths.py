"""The paths that scripts of pages send requests to, and read the responses of."""

from collections.abc import Sequence

from gateway.auth.origins import OriginPolicy
from gateway.entrances.emulation_endpoint import PATH as EMULATION_PATH
from gateway.entrances.entrance import Entrance, OverHttpStream
from gateway.entrances.socketio import PATHS as SOCKETIO_PATHS
from gateway.transports.cors import SharedPaths


def shared_paths(entrances: Sequence[Entrance], origins: OriginPolicy) -> SharedPaths:
    """Those of the entrances without a WebSocket. The API is for backends."""
    streams = [entrance.path for entrance in entrances if isinstance(entrance.carrier, OverHttpStream)]
    return SharedPaths(origins, [*streams, EMULATION_PATH, *SOCKETIO_PATHS])
