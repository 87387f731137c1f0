"""Finds the hooks that the settings name."""

from gateway.config.named_objects import named_object
from gateway.errors import ConfigError
from gateway.hooks.hooks import Hooks


def load_hooks(name: str) -> Hooks:
    """The object that `package.module:attribute` names; no hooks for an empty name. Raises ConfigError."""
    if not name:
        return Hooks()
    found = named_object(name, "hooks.python")
    if not isinstance(found, Hooks):
        raise ConfigError(f"hooks.python: {name} is a {type(found).__name__}, expected gateway.hooks.Hooks()")
    return found
