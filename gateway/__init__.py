"""A horizontally scalable pub/sub message gateway."""

__version__ = "0.1.0"
