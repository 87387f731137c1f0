"""Your code in the gateway: plain `async def` functions that are asked before a client connects, subscribes, publishes
or calls.

    from gateway.hooks import ConnectRequest, ConnectResult, Denied, Hooks, SubscribeRequest

    hooks = Hooks()

    @hooks.connect
    async def log_in(request: ConnectRequest) -> ConnectResult:
        user = await user_of(request.cookie("session"))
        if user is None:
            raise Denied("log in first")
        return ConnectResult(user=user.id, info={"name": user.name})

    @hooks.subscribe("room")
    async def may_enter(request: SubscribeRequest) -> bool:
        return await is_member(request.user, request.channel)

`gateway serve --hooks myapp.realtime:hooks` runs them. docs/hooks.md says what is promised.

May import what is below sessions. `questions`, `answers` and `decisions` do no I/O.
"""

from gateway.hooks.answers import (
    ConnectResult,
    Denied,
    Disconnect,
    PublishResult,
    RefreshResult,
    ServerSubscription,
    SubRefreshResult,
    SubscribeResult,
)
from gateway.hooks.events import DisconnectEvent, OccupiedEvent, UnsubscribeEvent, VacatedEvent
from gateway.hooks.hooks import Hooks
from gateway.hooks.questions import (
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SubRefreshRequest,
    SubscribeRequest,
)

__all__ = [
    "ConnectRequest",
    "ConnectResult",
    "Denied",
    "Disconnect",
    "DisconnectEvent",
    "Hooks",
    "OccupiedEvent",
    "PublishRequest",
    "PublishResult",
    "RefreshRequest",
    "RefreshResult",
    "RpcRequest",
    "ServerSubscription",
    "SubRefreshRequest",
    "SubRefreshResult",
    "SubscribeRequest",
    "SubscribeResult",
    "UnsubscribeEvent",
    "VacatedEvent",
]
