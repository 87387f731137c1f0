"""How many nodes and how much Redis a load needs, from what was measured. The model is in docs/scaling.md."""

import math
from typing import NamedTuple

from gateway_loadtest.planning.plan import UsageError
from gateway_loadtest.reporting.server_load import caution
from gateway_loadtest.results.result import Costs, Result

# CPU microseconds of Redis to pass one publication on to one node: 650,000 a second is what one instance has been seen
# to deliver (Centrifugal Labs, June 2026, 256 bytes).
REDIS_PER_MESSAGE = 1.5
# CPU microseconds of Redis and of a node to compare a quiet channel with history once, and how often that is done,
# seconds: measured with 5,000 of them on one node. With more it is less, since they are compared together.
REDIS_PER_COMPARISON = 16.0
NODE_PER_COMPARISON = 14.0
COMPARISON_INTERVAL = 30.0
# Kernel memory of a TCP connection, bytes, which no figure of a process shows.
KERNEL_PER_CONNECTION = 4096
GIB = 2**30
# Of anything: every person on Earth with a hundred devices.
MOST = 1e12


class Demand(NamedTuple):
    """What is to be carried."""

    connections: int
    # Publications per second, and subscribers that each reaches on average.
    publishes: float
    subscribers: float
    # Seconds within which everybody has to be back after all were cut at once.
    back_within: float = 60.0
    # Channels with history that are subscribed to and on which nothing arrives, counted at each node: those of one user
    # mostly.
    quiet: int = 0


class Capacity(NamedTuple):
    """What it takes."""

    # Processes, each on a core of its own, and what asks for so many.
    nodes: int
    reason: str
    # By each reason alone.
    by_deliveries: int
    by_connections: int
    by_reconnects: int
    # Cores that Redis would use.
    redis_cores: float
    # Instances with the headroom that the nodes have; more than one needs sharding.
    redis_instances: int


def costs_of(result: Result) -> Costs:
    """Raises UsageError where a result does not hold them."""
    costs = result.costs
    if not (costs.per_delivery and costs.per_connect and costs.memory_per_connection):
        raise UsageError(
            "the result has no costs per delivery, connect and connection: run `rooms` or `fanout` on this machine, "
            "with nodes that were just started, or name them with --pid or --metrics"
        )
    if result.outcome not in ("passed", "invalid"):
        raise UsageError(f"the run was {result.outcome}: its costs are no measure")
    return costs


def doubts(result: Result) -> list[str]:
    """Why a need that follows from this result may be far from what it will be; one sentence each."""
    found = [each for each in [caution(result)] if each]
    if not result.costs.redis_per_publish:
        found.append("what a publication costs Redis was not measured (--redis): only its messages to the nodes count")
    return found


def capacity(demand: Demand, costs: Costs, *, headroom: float = 0.5, node_memory: float = 2.0) -> Capacity:
    """`headroom`: share of a core that may be used; `node_memory`: GiB for the connections of one node.

    Raises UsageError for what is no number, or more than anybody has.
    """
    for name, value in (*demand._asdict().items(), ("headroom", headroom), ("node_memory", node_memory)):
        if not 0 <= value <= MOST:
            raise UsageError(f"{name} of at most {MOST:.0e}, not {value}")
    cpu = 1e6 * headroom
    comparisons = demand.quiet / COMPARISON_INTERVAL
    by_deliveries = _whole(
        (demand.publishes * demand.subscribers * costs.per_delivery + comparisons * NODE_PER_COMPARISON) / cpu
    )
    each = costs.memory_per_connection + KERNEL_PER_CONNECTION
    by_connections = _whole(demand.connections * each / (node_memory * GIB))
    by_reconnects = _whole(demand.connections * costs.per_connect / (demand.back_within * cpu))
    nodes = max(by_deliveries, by_connections, by_reconnects)
    reasons = {"deliveries": by_deliveries, "memory of connections": by_connections, "reconnects": by_reconnects}
    reason = max(reasons, key=lambda name: reasons[name])
    # A publication goes once to each node that has a subscriber.
    messages = demand.publishes * min(nodes, demand.subscribers)
    publishing = demand.publishes * costs.redis_per_publish + messages * REDIS_PER_MESSAGE
    redis_cores = (publishing + comparisons * REDIS_PER_COMPARISON) / 1e6
    return Capacity(
        nodes, reason, by_deliveries, by_connections, by_reconnects, redis_cores, _whole(redis_cores / headroom)
    )


def _whole(number: float) -> int:
    return max(math.ceil(number), 1)
