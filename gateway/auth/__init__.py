"""Who a client is and what it may do: tokens, permissions, rate limits, origins. Decides; knows no socket.

    identity                       what a token proves; no I/O
    token_verifier, keys, jwks, jws  checks tokens; keys may have to be fetched
    permissions, rate_limits       what somebody may do, and how often; no I/O
    origins, revocations           which pages may connect; which tokens count no more

Imports channels and what all share.
"""
