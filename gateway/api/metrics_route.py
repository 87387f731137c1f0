"""Metrics for Prometheus."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.metrics import Metrics

# https://prometheus.io/docs/instrumenting/exposition_formats/
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


def metrics_route(metrics: Metrics) -> BaseRoute:
    """`/metrics`."""

    async def scrape(request: Request) -> Response:
        return Response(metrics.render(), headers={"content-type": TEXT_FORMAT})

    return Route("/metrics", scrape)
