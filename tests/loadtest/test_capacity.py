"""The capacity model, and the table in docs/scaling.md that it makes."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from gateway_loadtest.cli import main
from gateway_loadtest.planning.plan import UsageError
from gateway_loadtest.reporting import capacity
from gateway_loadtest.reporting.capacity import Demand
from gateway_loadtest.results import result
from gateway_loadtest.results.result import Costs
from tests.loadtest import sample_results

DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
# Those of docs/scaling.md.
COSTS = Costs(per_delivery=8.0, per_connect=400.0, memory_per_connection=4800.0, redis_per_publish=16.8)


def test_what_is_scarce_decides() -> None:
    few = capacity.capacity(Demand(1000, 10, 10), COSTS)
    assert (few.nodes, few.redis_instances) == (1, 1)
    loud = capacity.capacity(Demand(1000, 1000, 1000), COSTS)
    assert (loud.nodes, loud.reason) == (16, "deliveries")
    many = capacity.capacity(Demand(5_000_000, 1, 1, back_within=3600), COSTS)
    assert (many.nodes, many.reason) == (21, "memory of connections")
    herd = capacity.capacity(Demand(500_000, 1, 1, back_within=10), COSTS)
    assert (herd.nodes, herd.reason) == (40, "reconnects")


def test_redis_is_asked_once_and_tells_each_node() -> None:
    needed = capacity.capacity(Demand(1000, 10_000, 4), COSTS)
    assert needed.redis_cores == pytest.approx((10_000 * 16.8 + 10_000 * min(needed.nodes, 4) * 1.5) / 1e6)


def test_quiet_channels_cost_both() -> None:
    """A million of them, as the document says."""
    few, many = (capacity.capacity(Demand(1000, 100, 10, quiet=quiet), COSTS) for quiet in (0, 1_000_000))
    assert many.redis_cores - few.redis_cores == pytest.approx(0.53, abs=0.01)
    assert (few.nodes, many.nodes) == (1, 1)
    assert capacity.capacity(Demand(1000, 100, 10, quiet=3_000_000), COSTS).nodes == 3


def test_the_table_of_the_document_is_what_the_model_says() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| ", DOCUMENT.read_text(), re.M)
    assert len(rows) == 5
    for row in rows:
        connections, publishes, subscribers, nodes, cores = (float(each.replace(",", "")) for each in row)
        needed = capacity.capacity(Demand(int(connections), publishes, subscribers), COSTS)
        assert (needed.nodes, round(needed.redis_cores, 2)) == (nodes, cores), row


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(result.encode(sample_results.result()))
    load = ["--connections", "100000", "--publishes", "100000", "--subscribers", "10"]
    found = CliRunner().invoke(main, ["capacity", str(path), *load])
    assert found.exit_code == 0
    assert "nodes: 15 (a core each; deliveries)" in found.output
    assert "shards, which the gateway has not yet" in found.output
    path.write_bytes(result.encode(structs.replace(sample_results.result(), costs=Costs())))
    found = CliRunner().invoke(main, ["capacity", str(path), *load])
    assert (found.exit_code, "the result has no costs" in found.output) == (2, True)
    with pytest.raises(UsageError):
        capacity.costs_of(sample_results.unreachable())
    with pytest.raises(UsageError, match="the run was lost: its costs are no measure"):
        capacity.costs_of(sample_results.lossy())


def test_a_result_may_be_doubted() -> None:
    """Of servers that had little to do, and without what Redis spent."""
    idle = structs.replace(sample_results.result(), costs=Costs(per_publish=75.0))
    assert [text.partition(":")[0] for text in capacity.doubts(idle)] == [
        "the servers used 1% of a core each",
        "what a publication costs Redis was not measured (--redis)",
    ]
    busy = structs.replace(idle, costs=Costs(per_publish=2300.0, redis_per_publish=20.0))
    assert capacity.doubts(busy) == []


@pytest.mark.parametrize("option", ["--publishes", "--subscribers", "--back-within", "--headroom", "--node-memory"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
def test_what_is_no_load_is_said(tmp_path: Path, option: str, value: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(result.encode(sample_results.result()))
    load = ["--connections", "1000", "--publishes", "10", "--subscribers", "10", option, value]
    found = CliRunner().invoke(main, ["capacity", str(path), *load])
    assert found.exit_code == 2, found.output
    assert "Error: " in found.output
