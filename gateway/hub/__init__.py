"""Local fan-out: from a publication to the sockets of this node.

    hub      the channels with subscribers, and turns of the loop for large fan-outs
    fanout   the subscribers of one channel, by delivery group, and what waits for them
    encoder  a wire protocol in one framing; its identity names a delivery group
    corks    what sessions say in a turn of the loop, written before the next delivery
    outbox   what a slow client has not read
    budget   bounds what waits on the node

Imports protocols and the shared modules. Does no I/O.
"""
