"""Handshakes that ask for what an entrance does not speak: refused with words, before the upgrade."""

from gateway.log import LONGEST_CHOSEN, cut
from gateway.transports.admission import Refusal
from gateway.transports.handshake import Handshake, HandshakeRefused


def refusal(handshake: Handshake, speaks: str, reason: str = "no known subprotocol") -> HandshakeRefused:
    """`speaks` says what is spoken, which also tells the operator which entrance it was. `reason` is for the log and
    the metrics.

    Only the client is told what it offered: among that may be a token, which must not reach the log.
    """
    offered = cut(", ".join(handshake.subprotocols), LONGEST_CHOSEN) or "none"
    return HandshakeRefused(Refusal(400, reason, "", speaks), f"{speaks}; subprotocols offered: {offered}")
