"""The routes of the HTTP API."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.api import request_shapes, result_shapes
from gateway.api.access import Access, Scope
from gateway.api.api_endpoint import ApiEndpoint
from gateway.api.batch import Batches
from gateway.api.cluster_methods import Cluster
from gateway.api.history import Histories
from gateway.api.latest import LatestValues
from gateway.api.methods import DOCUMENT, Method, Methods
from gateway.api.openapi import document
from gateway.api.pipe import Pipe
from gateway.api.presence import Members
from gateway.api.publications import Publications
from gateway.api.publishing import Publisher
from gateway.api.users import Users
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.hooks.payloads import Payloads
from gateway.metrics import Metrics
from gateway.node.administration import Administration
from gateway.node.messaging import Messaging


class Api:
    """`POST /api/{method}`, `POST /api` and their OpenAPI document, for any number of listeners."""

    def __init__(
        self,
        messaging: Messaging,
        administration: Administration,
        channels: Channels,
        settings: ServerSettings,
        metrics: Metrics,
        address: Callable[[Scope], str],
        payloads: Payloads | None = None,
    ) -> None:
        """`address` tells that of a client, for the log. `payloads`: the models of namespaces, None without any."""
        limits, max_batch = settings.limits, settings.api.max_batch
        self._access = Access(settings.api.keys, insecure=settings.api.insecure, address=address)
        self._publisher = Publisher(messaging, Publications(channels, limits.message_size, max_batch, payloads))
        self._users = Users(administration, channels, settings)
        single = {
            **self._writing(),
            **_reading(messaging, channels),
            **_operating(Cluster(administration)),
        }
        commands = Methods(single)
        batches = Batches(self._publisher, commands, max_batch)
        batch = Method(request_shapes.BatchRequest, result_shapes.BatchResult, batches.run, batches.decode)
        self.methods = Methods({**single, "batch": batch})
        described = msgspec.json.encode(document(self.methods.described))

        async def openapi(request: Request) -> Response:
            return Response(described, media_type="application/json")

        endpoint = ApiEndpoint(self.methods, Pipe(batches, commands, metrics), self._access, metrics)
        self.routes: list[BaseRoute] = [
            Route(DOCUMENT, openapi),
            Route("/api", endpoint),
            Route("/api/{method}", endpoint),
        ]

    def apply(self, settings: ServerSettings) -> None:
        """These keys and limits hold from now on."""
        self._access.apply(settings.api.keys, insecure=settings.api.insecure)
        self._publisher.publications.message_size = settings.limits.message_size
        self._users.apply(settings)

    def _writing(self) -> dict[str, Method]:
        publisher, users = self._publisher, self._users
        return {
            "publish": Method(request_shapes.PublishRequest, result_shapes.PublishResult, publisher.publish),
            "broadcast": Method(request_shapes.BroadcastRequest, result_shapes.BroadcastResult, publisher.broadcast),
            "subscribe": Method(request_shapes.SubscribeRequest, result_shapes.EmptyResult, users.subscribe),
            "unsubscribe": Method(request_shapes.UnsubscribeRequest, result_shapes.EmptyResult, users.unsubscribe),
            "disconnect": Method(request_shapes.DisconnectRequest, result_shapes.EmptyResult, users.disconnect),
            "refresh": Method(request_shapes.RefreshRequest, result_shapes.EmptyResult, users.refresh),
            "revoke": Method(request_shapes.RevokeRequest, result_shapes.RevokeResult, users.revoke),
            "kick": Method(request_shapes.KickRequest, result_shapes.KickResult, users.kick),
        }


def _reading(messaging: Messaging, channels: Channels) -> dict[str, Method]:
    histories, latest = Histories(messaging, channels), LatestValues(messaging, channels)
    members = Members(messaging, channels)
    return {
        "history": Method(request_shapes.HistoryRequest, result_shapes.HistoryResult, histories.read),
        "history_remove": Method(request_shapes.HistoryRemoveRequest, result_shapes.EmptyResult, histories.remove),
        "latest": Method(request_shapes.LatestRequest, result_shapes.LatestResult, latest.read),
        "latest_remove": Method(request_shapes.LatestRemoveRequest, result_shapes.EmptyResult, latest.remove),
        "presence": Method(request_shapes.PresenceRequest, result_shapes.PresenceResult, members.presence),
        "presence_stats": Method(request_shapes.PresenceStatsRequest, result_shapes.PresenceStatsResult, members.stats),
    }


def _operating(cluster: Cluster) -> dict[str, Method]:
    return {
        "channels": Method(request_shapes.ChannelsRequest, result_shapes.ChannelsResult, cluster.channels),
        "info": Method(request_shapes.InfoRequest, result_shapes.InfoResult, cluster.info),
        "drain": Method(request_shapes.DrainRequest, result_shapes.DrainResult, cluster.drain),
        "reload": Method(request_shapes.ReloadRequest, result_shapes.ReloadResult, cluster.reload),
    }
