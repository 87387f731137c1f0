"""How bytes and HTTP come in: listeners, bounds on what is not a connection yet, and the WebSockets themselves."""
