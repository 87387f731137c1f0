"""Messages are whole, however the body is cut."""

import pytest

from gateway_loadtest.wires import message_cutters
from gateway_loadtest.wires.message_cutters import Cutter, EventCutter, data_of

EVENTS = b'data: {"a":1}\n\n:\n\n: note\nid: e:1\n\nevent: x\ndata:{"b":\ndata: 2}\nid: e:2\n\ndata: {}\n\n'
DATA = [b'{"a":1}', b'{"b":', b"2}", b"{}"]


def halves(stream: bytes) -> list[list[bytes]]:
    """In two at every place, and byte by byte."""
    return [*([stream[:at], stream[at:]] for at in range(len(stream) + 1)), [bytes([each]) for each in stream]]


def test_lines() -> None:
    """Several at once come together; what has no end yet is kept."""
    stream = b'{"a":1}\n\n{}\n{"b":2}\n'
    for pieces in halves(stream):
        cutter = Cutter(b"\n")
        lines = [line for piece in pieces for line in cutter.cut(piece).split(b"\n") if line]
        assert lines == [b'{"a":1}', b"{}", b'{"b":2}']
    cutter = Cutter(b"\n")
    assert [cutter.cut(piece) for piece in (b"a", b"b\nc\nd", b"", b"\n")] == [b"", b"ab\nc", b"", b"d"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events(end: bytes) -> None:
    """With each of the three line ends that the format has."""
    for pieces in halves(EVENTS.replace(b"\n", end)):
        cutter = EventCutter()
        lines = [line for piece in pieces for line in data_of(cutter.cut(piece)).split(b"\n") if line]
        assert lines == DATA


def test_an_event_that_has_not_ended_is_none() -> None:
    cutter = EventCutter()
    assert cutter.cut(b"data: 1\n") == b""
    assert cutter.cut(b"id: e:1\n") == b""
    assert cutter.cut(b"\n") == b"data: 1\nid: e:1"


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: x\n" * 12])
def test_a_message_without_an_end(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """It would fill the memory of the generator."""
    monkeypatch.setattr(message_cutters, "LARGEST", 1000)
    cutter = EventCutter()
    for _ in range(10):
        assert cutter.cut(piece) == b""
    with pytest.raises(ValueError, match="a message of more than 1000 bytes"):
        cutter.cut(piece)


def test_what_was_cut_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is one of a message, not of a connection."""
    monkeypatch.setattr(message_cutters, "LARGEST", 1000)
    cutter = Cutter(b"\n")
    for _ in range(100):
        cutter.cut(b"x" * 400)
        assert len(cutter.cut(b"x" * 400 + b"\nrest")) in (800, 804)
        cutter.cut(b"\n")
