"""The engine for any number of nodes, with Redis or Valkey between them.

    redis_broker      the broker: finds the shard of a channel, and does what there is one of per cluster
    keyspace          every key and bus channel, and the partitions
    redis_registry    leases of nodes, occupancy of channels, revocations; `reaper` cleans up after ended leases
    redis_presence    who is in a channel
    stream_commands   histories and latest values as commands, which `stream_reads` sends
    control_messages  to all nodes; `control_log` keeps them for those that are cut off
    link              a connection; a `kept_link` is replaced when it breaks
    generation        whether a server is still the one it was; `heartbeat`: whether this node hears itself
    subscriptions     what is subscribed over a link
    lua, scripts/     what runs inside Redis

Imports the ports and what the engines share (`gateway.broker.*`), and lower parts; nothing of `gateway.broker.memory`.
"""
