"""The engine of one process: nothing leaves it, nothing outlives it. For development and single nodes.

    memory_broker    carries publications on the next turn of the loop, and owns the other two
    memory_streams   histories and latest values
    memory_presence  who is in a channel
    memory_registry  a cluster of one node

Imports the ports and what the engines share (`gateway.broker.*`), and lower parts; nothing of `gateway.broker.redis`.
"""
