"""HTTP responses that do not end: framing, a socket of their own, plain ASGI, and the endpoint above both.

May import what its parent package may; knows nothing of WebSockets.
"""
