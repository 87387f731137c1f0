"""The marks by which publications are found."""

import json

from gateway_loadtest.counting.marks import Mark, Marks
from gateway_loadtest.planning.plan import SMALLEST_PAYLOAD


def test_marks_are_found_in_whatever_is_around_them() -> None:
    marks = Marks("ab12cd", 100)
    payloads = [marks.payload(Mark(channel, number, 2**62)) for channel, number in ((0, 1), (7, 123456))]
    assert [len(payload) for payload in payloads] == [100, 100]
    frame = b"\n".join(json.dumps({"push": {"pub": {"data": payload}}}).encode() for payload in payloads)
    found = marks.find(frame)
    assert [payload.decode() for payload, *_ in found] == payloads
    assert [tuple(map(int, mark)) for _, *mark in found] == [(0, 1, 2**62), (7, 123456, 2**62)]


def test_what_was_cut_short_is_no_mark() -> None:
    marks = Marks("ab12cd", 100)
    payload = marks.payload(Mark(1, 2, 3)).encode()
    assert [len(marks.find(payload[:length])) for length in (100, 99, 60)] == [1, 0, 0]
    assert [len(found) for found, *_ in marks.find(payload[:50] + payload[60:])] == [90] != [marks.size]


def test_those_of_another_run_are_not_seen() -> None:
    """A history may still hold them."""
    assert Marks("aaaaaa", 64).find(Marks("bbbbbb", 64).payload(Mark(1, 1, 1)).encode()) == []


def test_the_smallest_payload_holds_the_largest_mark() -> None:
    payload = Marks("ffffff", SMALLEST_PAYLOAD).payload(Mark(10**6, 10**9, 2**63))
    assert len(payload) <= SMALLEST_PAYLOAD
