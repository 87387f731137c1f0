"""Socket.IO v5 over Engine.IO v4: pure functions between bytes and packets.

    engineio_packets     packets in WebSocket messages and in the bodies of long polling; the handshake
    engineio_errors      the errors of Engine.IO's HTTP requests, as data
    socketio_packets     decodes what clients send: packets, without what is attached to them
    attachments          puts buffers, which come in messages of their own, back into their packet
    socketio_encoder     encodes what the server sends

What violates a protocol raises Disconnect, with the reason in `detail`: the reference closes the connection as well.
"""
