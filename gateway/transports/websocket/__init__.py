"""WebSockets (RFC 6455): frames, the fast path under uvicorn, plain ASGI elsewhere, and the endpoint above both."""
