"""Measures servers side by side on this machine: the gateway, the limit, and what others use in its place."""
