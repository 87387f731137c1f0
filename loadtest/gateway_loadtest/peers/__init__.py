"""Servers side by side on this machine: the gateway, the limit, and what others use in its place.

Imports `planning`, `wires`, `results`, `running` and `reporting`.
"""
