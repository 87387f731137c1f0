"""How connections come in, and what carries their bytes.

    server, acceptor, lifespan, tls    listeners on one loop, started and ended in order
    http_protocol                      our HTTP class for uvicorn; `uvicorn_internals` lists what it builds on
    admission, client_addresses, flow  limits on connections that have not authenticated yet
    client_endpoint, handshake         lets clients in, whatever carries them
    socket_transport, asgi_transport   a long-lived connection on its own socket, or over plain ASGI
    websocket, http_stream             both of the above, for WebSockets and for HTTP responses that do not end
    drain                              spreads the closing of many connections over time

Imports sessions only as a port (`session/transport.py`); knows neither the node nor any wire protocol.
"""
