"""The engine for any number of nodes, with Redis or Valkey between them.

    redis_broker      the broker: routes to the shard of a channel; control messages go through the home shard
    topology          which shard has which partition, and which one is the home shard
    shard             one server: its links, subscriptions, heartbeat and generation
    keyspace          all keys and bus channels, and the partitions
    publisher         publishes to a shard; `stream_reads` reads from it; both use the commands of `stream_commands`
    redis_presence    presence in the channels of one shard; `sharded_presence` over all shards
    redis_registry    leases of nodes, occupancy of channels, revocations; `reaper` cleans up after expired leases
    redis_emitters    services that emit with libraries of Socket.IO, heard by one node at a time
    control_messages  messages to all nodes; `control_log` keeps them for nodes that are cut off
    link              a connection; `kept_link` replaces one that breaks; `subscriptions` are made on one
    generation        detects restart and failover of a server; `heartbeat` detects that this node hears nothing
    lua, scripts/     scripts that run inside Redis

Imports the ports and the shared parts of the engines (`gateway.broker.*`), and lower parts; nothing of
`gateway.broker.memory`.
"""
