"""The routes of the HTTP API."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.api import schemas
from gateway.api.access import Access
from gateway.api.api_endpoint import DOCUMENT, ApiEndpoint, Method
from gateway.api.batch import Batches
from gateway.api.cluster_methods import Cluster
from gateway.api.history import Histories
from gateway.api.latest import LatestValues
from gateway.api.openapi import document
from gateway.api.presence import Members
from gateway.api.publishing import Publisher
from gateway.api.users import Users
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.metrics import Metrics
from gateway.node.administration import Administration
from gateway.node.messaging import Messaging


class Api:
    """`POST /api/{method}` and its OpenAPI document, for any number of listeners."""

    def __init__(
        self,
        messaging: Messaging,
        administration: Administration,
        channels: Channels,
        settings: ServerSettings,
        metrics: Metrics,
    ) -> None:
        limits, max_batch = settings.limits, settings.api.max_batch
        self._access = Access(settings.api.keys, insecure=settings.api.insecure)
        self._publisher = Publisher(messaging, channels, limits.message_size, max_batch)
        self._users = Users(administration, channels, settings)
        single = {
            **self._writing(),
            **_reading(messaging, channels),
            **_operating(Cluster(administration)),
        }
        batches = Batches(self._publisher, {name: each.call for name, each in single.items()}, max_batch)
        self.methods = {**single, "batch": Method(schemas.BatchRequest, schemas.BatchResult, batches.run)}
        described = msgspec.json.encode(document(self.methods))

        async def openapi(request: Request) -> Response:
            return Response(described, media_type="application/json")

        endpoint = ApiEndpoint(self.methods, self._access, metrics)
        self.routes: list[BaseRoute] = [Route(DOCUMENT, openapi), Route("/api/{method}", endpoint)]

    def apply(self, settings: ServerSettings) -> None:
        """These keys and limits hold from now on."""
        self._access.apply(settings.api.keys, insecure=settings.api.insecure)
        self._publisher.message_size = settings.limits.message_size
        self._users.apply(settings)

    def _writing(self) -> dict[str, Method]:
        publisher, users = self._publisher, self._users
        return {
            "publish": Method(schemas.PublishRequest, schemas.PublishResult, publisher.publish),
            "broadcast": Method(schemas.BroadcastRequest, schemas.BroadcastResult, publisher.broadcast),
            "subscribe": Method(schemas.SubscribeRequest, schemas.EmptyResult, users.subscribe),
            "unsubscribe": Method(schemas.UnsubscribeRequest, schemas.EmptyResult, users.unsubscribe),
            "disconnect": Method(schemas.DisconnectRequest, schemas.EmptyResult, users.disconnect),
            "refresh": Method(schemas.RefreshRequest, schemas.EmptyResult, users.refresh),
            "revoke": Method(schemas.RevokeRequest, schemas.EmptyResult, users.revoke),
        }


def _reading(messaging: Messaging, channels: Channels) -> dict[str, Method]:
    histories, latest = Histories(messaging, channels), LatestValues(messaging, channels)
    members = Members(messaging, channels)
    return {
        "history": Method(schemas.HistoryRequest, schemas.HistoryResult, histories.read),
        "history_remove": Method(schemas.HistoryRemoveRequest, schemas.EmptyResult, histories.remove),
        "latest": Method(schemas.LatestRequest, schemas.LatestResult, latest.read),
        "latest_remove": Method(schemas.LatestRemoveRequest, schemas.EmptyResult, latest.remove),
        "presence": Method(schemas.PresenceRequest, schemas.PresenceResult, members.presence),
        "presence_stats": Method(schemas.PresenceStatsRequest, schemas.PresenceStatsResult, members.stats),
    }


def _operating(cluster: Cluster) -> dict[str, Method]:
    return {
        "channels": Method(schemas.ChannelsRequest, schemas.ChannelsResult, cluster.channels),
        "info": Method(schemas.InfoRequest, schemas.InfoResult, cluster.info),
        "drain": Method(schemas.DrainRequest, schemas.DrainResult, cluster.drain),
        "reload": Method(schemas.ReloadRequest, schemas.ReloadResult, cluster.reload),
    }
