"""A client's session: its requests, what it is sent, and its deadlines. Driven by calls, does no I/O.

    session       the client's state and subscriptions; `state`, `subscription`
    inbox         incoming requests, run in order and rate-limited; `decoding` parses them
    commands      one handler per request: `connecting`, `subscribing`, `reading`; `recovery` brings a client up to date
    outgoing      replies, pushes and deliveries
    liveness      pings and pongs; `wheel` is the timer of all sessions
    services      what all sessions of a node share
    transport     the port to the socket; `ports` has those to the node, to tokens and to the team's own code

Imports protocols, hub, the parts of auth without I/O, and the shared modules. Knows neither the node nor any transport.
"""
