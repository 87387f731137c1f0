"""One client: what it asks for, what it is told, and when it has to go. Driven by calls, does no I/O.

    session       the client's state and subscriptions; `state`, `subscription`
    inbox         its requests on their way in: one after another, no faster than allowed; `decoding` reads them
    commands      one handler per request: `connecting`, `subscribing`, `reading`; `recovery` is where a client begins
    outgoing      replies, pushes and deliveries on their way out
    liveness      pings and pongs; `wheel` is the timer of all sessions
    services      what all sessions of a node share
    transport     the port to the socket; `ports` has those to the node, to tokens and to the team's own code

Imports protocols, hub, auth without I/O, and what all share. Knows neither the node nor any transport.
"""
