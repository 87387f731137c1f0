"""Stream positions as clients write them in a URL (tokens: test_plain_websocket.py)."""

import pytest

from gateway.entrances.credentials import position
from gateway.messages import Position


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("e:1", Position(1, "e")),
        ("a:b:17", Position(17, "a:b")),
        (":5", Position(5, "")),
        # No stream has such a position: the client is told that its position is gone.
        ("e", Position(0, "e")),
        ("e:", Position(0, "e:")),
        ("e:-1", Position(0, "e:-1")),
        ("e:1x", Position(0, "e:1x")),
        ("e:\u0661", Position(0, "e:\u0661")),
        ("e:" + "9" * 19, Position(0, "e:" + "9" * 19)),
    ],
)
def test_a_position_is_an_epoch_and_an_offset(text: str, found: Position | None) -> None:
    assert position(text) == found
