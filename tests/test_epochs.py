"""Which epochs continue which."""

import pytest

from gateway.epochs import begun, continues, unused

TTL = 600  # seconds


@pytest.mark.parametrize(
    ("older", "newer", "expected"),
    [
        ("", "g.5", True),
        ("anything", "anything", True),
        (unused("g", 1000), begun("g", 1000), True),
        (unused("g", 1000), begun("g", 600_999), True),
        (unused("g", 1000), begun("g", 601_000), False),
        (unused("g", 1000), unused("g", 600_999), True),
        (unused("g", 1000), unused("g", 601_000), False),
        (unused("g", 1000), begun("g", 999), False),
        (unused("g", 1000), begun("h", 1000), False),
        (begun("g", 1000), begun("g", 1001), False),
        (begun("g", 1000), unused("g", 1001), False),
        (unused("_", 1000), begun("_", 1001), True),
        ("g-", "g.5", False),
        ("g-5x", "g.5", False),
        ("g-\u0665", "g.5", False),
        ("-5", ".5", False),
        ("g-" + "9" * 5000, "g.5", False),
        ("g-5", "", False),
        ("g.-5", "g.5", False),
    ],
)
def test_a_stream_continues_what_its_channel_was_before(older: str, newer: str, expected: bool) -> None:
    """Within the time for which positions are kept, of one generation, and never another stream."""
    assert continues(older, newer, TTL) is expected
