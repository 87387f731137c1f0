"""A load-test tool for WebSocket pub/sub backends: it speaks their protocols itself and counts every message."""

__version__ = "0.1.0"
