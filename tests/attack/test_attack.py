"""What `make attack` reports, and that an attack runs to its end. The figures themselves are nobody's test."""

import asyncio
import itertools
import math
import sys

import pytest

from gateway.transports.websocket.frames import FrameParser
from tests.attack.attacker import Tally
from tests.attack.flooders import Connected, Fragments, KeysLatest, KeysSubscribe, LargeReads, Log, SubscribeStorm
from tests.attack.run import measure
from tests.attack.table import HEADS, LEGEND, Result, line, percentile, short

WIDTH = 140


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_the_value_of_the_nearest_rank(share: float, value: int) -> None:
    assert percentile(range(100, 0, -1), share) == value


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (9_999, "9999"), (10_000, "10.0k"), (123_456, "123.5k"), (2_160_328_704, "2.2G"), (10**13, "10000.0G")],
)
def test_counts_are_short(count: int, text: str) -> None:
    assert short(count) == text


def result(attack: list[float], sink: list[float]) -> Result:
    tally = Tally(connections=99_999, messages=9_999_999_999, bytes=99_999_000_000)
    return Result(
        "garbage-after-close", sink, attack, 0.0213, 2**20, 3 * 2**20, 7, 2**19, 2**30, tally, "a note of 14 c"
    )


def test_a_line_is_below_its_heads_and_fits_a_terminal() -> None:
    """Also with the longest name and large figures."""
    text = line(result([0.004] * 199 + [0.008], [0.002] * 200))
    assert text.startswith(
        "garbage-after-close    4.0    4.0    8.0    2.0    2.0   0/200   21.3     1     3  1024      7   0.5  99999"
    )
    assert len(text) <= WIDTH
    assert len(HEADS) == len(text) - len("a note of 14 c")
    assert all(len(row) <= WIDTH for row in LEGEND.splitlines())


def test_what_was_not_done_counts_as_endless() -> None:
    """It raises the percentiles, and is not merely left out."""
    found = result([0.004] * 197 + [math.inf] * 3, [0.002] * 200)
    assert found.failed == "3/200"
    assert math.isinf(found.ratio)
    assert line(found).split()[1:4] == ["4.0", "never", "never"]


def test_no_ratio_where_the_machine_itself_is_too_slow() -> None:
    assert math.isnan(result([0.004], [math.inf]).ratio)


class Sink:
    """Takes messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    @property
    def receiver(self) -> "Sink":
        return self

    def received(self, data: bytes, *, binary: bool) -> None:
        self.messages.append(data)

    def ping_received(self, data: bytes) -> None:
        raise AssertionError

    def pong_received(self) -> None:
        raise AssertionError

    def close_received(self, code: int, reason: str) -> None:
        raise AssertionError


@pytest.mark.parametrize("attacker", [Fragments, LargeReads, Log, KeysSubscribe, KeysLatest, SubscribeStorm])
def test_what_a_flood_counts_as_messages_are_messages(attacker: type[Connected]) -> None:
    """Sound ones within the default limits: an attacker that is thrown out at once shows nothing."""
    for piece in itertools.islice(attacker(("127.0.0.1", 0)).pieces(), 4):
        sink = Sink()
        parser = FrameParser(65_536, 1_024)
        more = parser.feed(piece.data, sink)
        while more:
            more = parser.feed(b"", sink)
        assert len(sink.messages) == piece.messages


@pytest.mark.slow
def test_an_attack_runs_to_its_end() -> None:
    """Against a node and a sink, with a probe beside it."""
    found = asyncio.run(measure("large-reads", 0.5, [sys.executable, "-m", "gateway"]))
    assert len(found.attack) == len(found.sink) == 10
    assert found.tally.connections > 0
    assert found.tally.messages > 0
