"""The routes of the HTTP API."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.api import schemas
from gateway.api.access import Access
from gateway.api.batch import Batches
from gateway.api.cluster import Cluster
from gateway.api.endpoint import DOCUMENT, ApiEndpoint, Method
from gateway.api.history import Histories
from gateway.api.latest import LatestValues
from gateway.api.openapi import document
from gateway.api.presence import Members
from gateway.api.publishing import Publisher
from gateway.api.users import Users
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.metrics import Metrics
from gateway.node.node import Node


def api_routes(node: Node, channels: Channels, settings: ServerSettings, metrics: Metrics) -> list[BaseRoute]:
    """`POST /api/{method}`, and what describes it."""
    methods = api_methods(node, channels, settings)
    described = msgspec.json.encode(document(methods))

    async def openapi(request: Request) -> Response:
        return Response(described, media_type="application/json")

    access = Access(settings.api.keys, insecure=settings.api.insecure)
    return [Route(DOCUMENT, openapi), Route("/api/{method}", ApiEndpoint(methods, access, metrics))]


def api_methods(node: Node, channels: Channels, settings: ServerSettings) -> dict[str, Method]:
    """All methods by name."""
    publisher = Publisher(node, channels, settings.limits.message_size, settings.api.max_batch)
    users = Users(node, channels, settings.limits.message_size)
    histories = Histories(node, channels)
    latest = LatestValues(node, channels)
    members = Members(node, channels)
    cluster = Cluster(node)
    methods = {
        "publish": Method(schemas.PublishRequest, schemas.PublishResult, publisher.publish),
        "broadcast": Method(schemas.BroadcastRequest, schemas.BroadcastResult, publisher.broadcast),
        "subscribe": Method(schemas.SubscribeRequest, schemas.EmptyResult, users.subscribe),
        "unsubscribe": Method(schemas.UnsubscribeRequest, schemas.EmptyResult, users.unsubscribe),
        "disconnect": Method(schemas.DisconnectRequest, schemas.EmptyResult, users.disconnect),
        "refresh": Method(schemas.RefreshRequest, schemas.EmptyResult, users.refresh),
        "revoke": Method(schemas.RevokeRequest, schemas.EmptyResult, users.revoke),
        "history": Method(schemas.HistoryRequest, schemas.HistoryResult, histories.read),
        "history_remove": Method(schemas.HistoryRemoveRequest, schemas.EmptyResult, histories.remove),
        "latest": Method(schemas.LatestRequest, schemas.LatestResult, latest.read),
        "latest_remove": Method(schemas.LatestRemoveRequest, schemas.EmptyResult, latest.remove),
        "presence": Method(schemas.PresenceRequest, schemas.PresenceResult, members.presence),
        "presence_stats": Method(schemas.PresenceStatsRequest, schemas.PresenceStatsResult, members.stats),
        "channels": Method(schemas.ChannelsRequest, schemas.ChannelsResult, cluster.channels),
        "info": Method(schemas.InfoRequest, schemas.InfoResult, cluster.info),
        "drain": Method(schemas.DrainRequest, schemas.DrainResult, cluster.drain),
    }
    batches = Batches(publisher, {name: each.call for name, each in methods.items()}, settings.api.max_batch)
    return {**methods, "batch": Method(schemas.BatchRequest, schemas.BatchResult, batches.run)}
