"""HTTP responses that do not end: framing, the transports (own socket, plain ASGI), and the endpoint for both.

May import what its parent package may; knows nothing of WebSockets.
"""
