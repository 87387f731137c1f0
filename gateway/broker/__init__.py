"""What is between the nodes.

    base      the ports: Broker, Presence, Registry, and the Receiver that they call
    envelope  how a publication travels and is kept
    refusals  what every engine answers in the same words
    memory    the engine of one process
    redis     the engine of any number of nodes

Imports what all parts share (see docs/architecture.md), and no other part. Neither engine imports the other.
"""
