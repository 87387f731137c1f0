"""Servers side by side on this machine: the gateway, the limit, and what others use in its place.

Imports `planning`, `wires`, `results`, `running` and `reporting`.
"""

from gateway_loadtest.peers.measurement import PEERS, Load, measure
from gateway_loadtest.peers.side_by_side import SideBySide, table

__all__ = ["PEERS", "Load", "SideBySide", "measure", "table"]
