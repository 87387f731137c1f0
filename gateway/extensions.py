"""Extensions of the ASGI scope that our HTTP class offers to applications."""

# An application may report that a connection has authenticated: while idle between requests it then no longer counts as
# unauthenticated. {"authenticated": Callable[[], None]}
AUTHENTICATED = "gateway.authenticated"

# An application may have connections that outlive their requests: the server asks them to end when it stops, as it asks
# its own. {"connections": set of objects with `shutdown()` and `abort()`, "drain": Drain, which spreads their ends}
CONNECTIONS = "gateway.connections"

# An application may take the socket and return: from then on callbacks drive it, and the request is gone.
# {"place": Place | None, "detach": ...}
#
# WebSocket, after `websocket.accept`: detach(Connection, Place).
# HTTP, once the whole request has been received, instead of a response: detach(headers, Connection, Place). The headers
# are for a response with status 200 that does not end. In HTTP/1.1 everything written to it must be framed as chunks
# (RFC 9112 section 7.1).
DETACH = "gateway.detach"

# The Framing for a WebSocket on which the client and our server have agreed to compress messages. Without it, messages
# are framed as they are.
FRAMING = "gateway.framing"
