"""The engine for any number of nodes, with Redis or Valkey between them.

    redis_broker      the broker: asks the shard of a channel, and does what there is one of per cluster
    topology          which shard has which partition, and which one is the home of what there is one of
    shard             one server: its links, what is subscribed there, and whether it can be relied upon
    keyspace          every key and bus channel, and the partitions
    publisher         publishes to a shard; `stream_reads` reads from it, both with the bytes of `stream_commands`
    redis_presence    who is in the channels of a shard; `sharded_presence` in those of all
    redis_registry    leases of nodes, occupancy of channels, revocations; `reaper` cleans up after ended leases
    control_messages  to all nodes; `control_log` keeps them for those that are cut off
    link              a connection; a `kept_link` is replaced when it breaks, `subscriptions` lie on one
    generation        whether a server is still the one it was; `heartbeat`: whether this node hears itself
    lua, scripts/     what runs inside Redis

Imports the ports and what the engines share (`gateway.broker.*`), and lower parts; nothing of `gateway.broker.memory`.
"""
