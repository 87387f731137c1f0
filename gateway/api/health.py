"""Health for process managers and load balancers."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.node.node import Node


def health_routes(node: Node, *, public: bool) -> list[BaseRoute]:
    """`/health/live`: the process answers. `/health/ready`: send clients here; 503 with the reason otherwise.

    The public ones do not tell everybody where Redis is, and what it says.

    A node is not ready while it is deaf (it does not hear itself through the broker) and once it drains. Liveness
    never depends on the broker: a restart would not bring Redis back.
    """

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        health = node.health()
        reason = "draining" if node.draining else "no connection to Redis" if public else health.reason
        if health.ok and not node.draining:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "unavailable", "reason": reason}, 503)

    return [Route("/health/live", live), Route("/health/ready", ready)]
