"""Results for the tests of what shows them."""

import random
from typing import Any

from msgspec import structs

from gateway_loadtest.results.result import (
    Costs,
    Generator,
    Latencies,
    Moment,
    Pair,
    Result,
    Server,
    Spread,
    Stage,
    Totals,
)

HOSTILE = '<script>alert("x")</script>'


def spread(p50: float) -> Spread:
    bars = [(p50 * 0.8, 300), (p50, 500), (p50 * 4, 200)]
    return Spread(1000, p50 / 4, p50, p50, p50 * 2, p50 * 3, p50 * 4, p50 * 6, p50 * 8, bars)


def result(**fields: Any) -> Result:
    """A run that went well, as far as `fields` do not say otherwise."""
    dice = random.Random(7)
    timeline = [
        Moment(float(at), 500, 100, 1000, 0, dice.uniform(1, 2), dice.uniform(4, 9), dice.uniform(9, 20), 0.3, [0.2])
        for at in range(1, 20)
    ]
    made = Result(
        scenario="rooms",
        options={"channels": 50, "seed": 1, "stages": []},
        targets=["ws://a:1", "ws://b:2"],
        started="2026-01-01T00:00:00+00:00",
        seconds=20.0,
        outcome="passed",
        remarks=[],
        totals=Totals(connections=500, published=2000, acknowledged=2000, expected=20000, received=20000,
                      delivery_rate=1000.0, publish_rate=100.0),
        latencies=Latencies(connect=spread(3), subscribe=spread(1), delivery=spread(1.5)),
        pairs=[Pair("ws://a:1", "ws://b:2", 20000, 20000)],
        stages=[Stage("connect", 0, 3), Stage("steady", 3, 18), Stage("settle", 18, 20)],
        timeline=timeline,
        servers=[Server("node", "process", 3.5, 2**26, 2**27, 2**27)],
        costs=Costs(per_delivery=7.5, per_publish=75.0, per_connect=400.0, memory_per_connection=4800.0),
        generator=Generator(1, 0.3, 0.4, spread(0.2), 2000, 0, 10.0),
    )  # fmt: skip
    return structs.replace(made, **fields)


def lossy() -> Result:
    pair = Pair("ws://a:1", "ws://b:2", 20000, 19990, lost=10, gaps=2)
    totals = Totals(connections=500, published=2000, acknowledged=2000, expected=20000, received=19990, lost=10)
    return result(outcome="lost", totals=totals, pairs=[pair], remarks=["10 lost"], errors={"connection lost: 1006": 3})


def unreachable() -> Result:
    """Nothing happened at all."""
    return result(
        outcome="unreachable", totals=Totals(), latencies=Latencies(), pairs=[], timeline=[], servers=[], costs=Costs(),
        generator=Generator(1, 0.0, 0.0, Spread(), 0, 0, 10.0), errors={HOSTILE: 4}, remarks=[HOSTILE],
        targets=[f"ws://{HOSTILE}"], stages=[],
    )  # fmt: skip
