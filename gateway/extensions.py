"""Extensions of the ASGI scope by which our HTTP class offers more than ASGI to the applications behind it."""

# An application may say that a connection has proved who it is: idle between its requests it does not count as one that
# has not. {"authenticated": Callable[[], None]}
AUTHENTICATED = "gateway.authenticated"

# An application may take the socket and return: callbacks drive it from then on, and of the request nothing remains.
# {"place": Place | None, "detach": ...}
#
# WebSocket, after `websocket.accept`: detach(Connection, Place).
# HTTP, once the request was received as a whole and in place of a response: detach(headers, Connection, Place), where
# the headers are those of a response of status 200 that does not end. For HTTP/1.1 what is written to it has to be
# framed as chunks (RFC 9112 section 7.1).
DETACH = "gateway.detach"
