"""Wire protocols: pure functions between bytes and messages.

    wire_protocol        the ports: what all connections of a protocol share, and the codec of one connection
    centrifuge           the native protocol; `centrifuge_commands` decodes what clients send
    plain                messages with nothing around them; `one_channel` is the base of protocols without replies
    payload, fossil      kinds of payload in each other's place; differences between payloads

Imports messages and errors. No protocol knows another.
"""
