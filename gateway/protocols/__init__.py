"""Wire protocols: pure functions between bytes and messages.

    wire_protocol        the ports: WireProtocol, shared by all its connections, and the Codec of one connection
    centrifuge           the native protocol; `centrifuge_commands` decodes what clients send
    plain                bare messages without an envelope; `one_channel` is the base of protocols without replies
    socketio             Socket.IO over Engine.IO: their packets
    payload, fossil      one kind of payload shown as another; differences between payloads

Imports messages and errors. No protocol knows another one.
"""
