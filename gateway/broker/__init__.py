"""Messages and state between the nodes.

    base      the ports: Broker, Presence, Registry, and the Receiver that they call
    envelope  the format of a publication on the bus and in a stream
    refusals  errors that all engines word alike
    memory    the engine of one process
    redis     the engine of any number of nodes

Imports the shared parts (see docs/architecture.md), and no other part. Neither engine imports the other.
"""
