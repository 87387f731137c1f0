"""Health for process managers and load balancers."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.node.node import Node


def health_routes(node: Node, *, public: bool) -> list[BaseRoute]:
    """`/health/live`: the process answers. `/health/ready`: send clients here; 503 with the reason otherwise.

    The public routes do not reveal where Redis is, or its errors.

    A node is not ready while it does not hear itself through the broker, and after a drain has begun. Liveness never
    depends on the broker: a restart of the node would not help Redis.
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
