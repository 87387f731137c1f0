"""WebSockets (RFC 6455): handshake, frames, the transports (own socket, plain ASGI), and the endpoint for both.

May import what its parent package may; knows nothing of HTTP streams.
"""
