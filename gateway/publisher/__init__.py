"""Publishes past the nodes, directly into Redis: `Publisher`, and `AsyncPublisher` for asyncio.

    from gateway.publisher import Publisher

    gateway = Publisher("redis://127.0.0.1:6379/0")
    gateway.publish("chat:lobby", {"text": "hello"})

`job` decides what is published and when it is tried again, without any I/O; `publisher` and `async_publisher` send.
What clients of the HTTP API get as results and errors, publishers get too. docs/publisher.md says what is promised.
"""

from gateway.api.result_shapes import BroadcastResult, PublishResult
from gateway.client.failures import ClientError, Refused, Unavailable
from gateway.publisher.async_publisher import AsyncPublisher
from gateway.publisher.publisher import Publisher

__all__ = [
    "AsyncPublisher",
    "BroadcastResult",
    "ClientError",
    "PublishResult",
    "Publisher",
    "Refused",
    "Unavailable",
]
