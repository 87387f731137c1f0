"""Which of a channel's publications are sent as deltas, whatever encodes them."""

from collections.abc import Callable, Iterator, Sequence

from gateway.messages import Event, Publication
from gateway.protocols.fossil import LIMIT, create_delta
from gateway.protocols.wire_protocol import DIFFERENCE_BYTES


def differences(
    base: Publication | None, events: Sequence[Event], payload_of: Callable[[Publication], bytes]
) -> Iterator[tuple[Event, bytes, bool]]:
    """Events with their payload, or (True) its delta from the one before; joins and leaves with none.

    `payload_of` is the payload as the client gets it, which is what it applies deltas to.
    """
    left = DIFFERENCE_BYTES
    for event in events:
        if type(event) is not Publication:
            yield event, b"", False
            continue
        whole, delta = payload_of(event), b""
        if base is not None and len(whole) <= min(left, LIMIT):
            left -= len(whole)
            delta = _delta(payload_of(base), whole)
        yield event, delta or whole, bool(delta)
        # The client, too, uses the latest publication as the base of the next delta.
        base = event


def _delta(before: bytes, whole: bytes) -> bytes:
    """The delta from the previous payload; empty if it saves nothing."""
    if len(before) > LIMIT:
        return b""
    delta = create_delta(before, whole)
    return delta if len(delta) < len(whole) else b""
