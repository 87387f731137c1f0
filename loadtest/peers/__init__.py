"""Measures servers side by side on this machine: the gateway, the limit, and what others use in its place."""

from loadtest.peers.comparison import Comparison, table
from loadtest.peers.measuring import PEERS, Load, measure

__all__ = ["PEERS", "Comparison", "Load", "measure", "table"]
