"""A node: the server process between its clients and the broker that connects it to the other nodes.

`messaging` publishes, subscribes and reads; its `tracker` follows the channels with history (`stream`, `joiner`,
`merge`) and those with latest values (`latest_channel`). `administration` carries out and sends control messages.
`node` joins the cluster and leaves it.

Imports the hub, the broker's ports, channels, auth and the shared modules. Sessions and nodes do not import each
other: a node knows a session as a `Client` (`clients`), a session knows the node by `session/ports.py`.
"""
