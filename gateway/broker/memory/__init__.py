"""The engine of one process, for development and single nodes. Nothing leaves the process or outlives it.

    memory_broker    delivers publications on the next turn of the loop; owns streams and presence
    memory_streams   histories and latest values
    memory_presence  who is in a channel
    memory_registry  a cluster of one node
    memory_events    what the application is to be told

Imports the ports and the shared parts of the engines (`gateway.broker.*`), and lower parts; nothing of
`gateway.broker.redis`.
"""
