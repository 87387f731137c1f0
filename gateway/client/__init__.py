"""A client of the HTTP API, for backends in Python: `Client`, and `AsyncClient` for asyncio.

    from gateway.client import Client

    gateway = Client("http://127.0.0.1:8000", "<one of api.keys>")
    gateway.publish("chat:lobby", {"text": "hello"})

`commands` builds what can be asked, `calls` says when it is asked again and reads the answers, without any I/O;
`client` and `async_client` send. docs/client.md says what is promised. Imports the shapes of the API and what all
share.
"""

from gateway.api.request_shapes import StreamPosition
from gateway.api.result_shapes import (
    BatchReply,
    BatchResult,
    BroadcastResult,
    ChannelsResult,
    DrainResult,
    EmptyResult,
    HistoryPublication,
    HistoryResult,
    Info,
    InfoResult,
    KickResult,
    LatestResult,
    PresenceResult,
    PresenceStatsResult,
    PublishResult,
    ReloadResult,
    RevokeResult,
)
from gateway.client import commands
from gateway.client.async_client import AsyncClient
from gateway.client.client import Client
from gateway.client.failures import ClientError, Refused, Unauthorized, Unavailable

__all__ = [
    "AsyncClient",
    "BatchReply",
    "BatchResult",
    "BroadcastResult",
    "ChannelsResult",
    "Client",
    "ClientError",
    "DrainResult",
    "EmptyResult",
    "HistoryPublication",
    "HistoryResult",
    "Info",
    "InfoResult",
    "KickResult",
    "LatestResult",
    "PresenceResult",
    "PresenceStatsResult",
    "PublishResult",
    "Refused",
    "ReloadResult",
    "RevokeResult",
    "StreamPosition",
    "Unauthorized",
    "Unavailable",
    "commands",
]
