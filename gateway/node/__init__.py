"""A server process between its clients and the broker that joins it with the other nodes.

`messaging` publishes, subscribes and reads; its `tracker` knows where the subscribers of a channel with history stand
(`stream`, `joiner`, `merge`), or its newest values (`latest_channel`). `administration` carries out and sends control
messages. `node` joins the cluster and leaves.

Imports the hub, the ports of the broker, channels, auth and what all share. Sessions and nodes do not import each
other: a node knows a session as a `Client` (`clients`), a session knows the node by `session/ports.py`.
"""
