"""A peer that runs."""

from typing import NamedTuple

from loadtest.plan import Protocol

# Of the servers whose messages have nothing around them.
RAW_PATH = "/{role}/{channel}"


class Site(NamedTuple):
    """Where it is, and what it is."""

    protocol: Protocol
    # One for each node.
    targets: tuple[str, ...]
    version: str
    # Between the nodes; empty for a peer of one node.
    redis: str = ""
