"""WebSockets (RFC 6455): the opening handshake, frames, a socket of their own, plain ASGI, and the endpoint above both.

May import what its parent package may; knows nothing of HTTP streams.
"""
