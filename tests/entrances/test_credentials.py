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
    ],
)
def test_a_position_is_an_epoch_and_an_offset(text: str, found: Position | None) -> None:
    assert position(text) == found


@pytest.mark.parametrize("text", ["0", "e", "e:", ":", "e:-1", "e:1x", "e:\u0661", "e:" + "9" * 19])
def test_any_other_text_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="EPOCH:OFFSET"):
        position(text)
