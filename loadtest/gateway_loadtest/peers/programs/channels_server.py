"""Django Channels with channels_redis, to be served by uvicorn. REDIS_URL in the environment.

/sub/CHANNEL receives what is sent to /pub/CHANNEL.
"""

import os
from typing import Any

from django.conf import settings  # type: ignore[import-untyped,import-not-found,unused-ignore]

settings.configure(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # The capacity is the one in its documentation; the default of 100 loses messages sooner.
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]], "capacity": 1500},
        }
    },
)

# ruff: noqa: E402 - channels reads the settings when it is imported
from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped,import-not-found,unused-ignore]
from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-untyped,import-not-found,unused-ignore]
from django.urls import re_path  # type: ignore[import-untyped,import-not-found,unused-ignore]


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # untyped here
    """As in the tutorial of Channels, with a group for a channel."""

    async def connect(self) -> None:
        route = self.scope["url_route"]["kwargs"]
        # Group names have fewer characters than channels.
        self.group = "".join(each if each.isalnum() else "." for each in route["channel"])
        self.subscribed = route["role"] == "sub"
        if self.subscribed:
            await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        if self.subscribed:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send(self.group, {"type": "message", "text": text_data})

    async def message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


app = ProtocolTypeRouter(
    {"websocket": URLRouter([re_path(r"^(?P<role>sub|pub)/(?P<channel>[^/]+)$", Consumer.as_asgi())])}
)
