"""A horizontally scalable pub/sub message gateway."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.embedding import Gateway
    from gateway.hooks import Hooks

__version__ = "0.1.0"
__all__ = ["Gateway", "Hooks", "__version__"]


def __getattr__(name: str) -> Any:
    """`from gateway import Gateway, Hooks`: imported when asked for, since commands need neither (PEP 562)."""
    if name == "Gateway":
        from gateway.embedding import Gateway

        return Gateway
    if name == "Hooks":
        from gateway.hooks import Hooks

        return Hooks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
