"""Finds the hooks that the settings name."""

import importlib
import sys
from pathlib import Path

from gateway.errors import ConfigError
from gateway.hooks.hooks import Hooks


def load_hooks(name: str) -> Hooks:
    """The object that `package.module:attribute` names; no hooks for an empty name. Raises ConfigError.

    The folder in which the command was started comes first, as with `python -m`.
    """
    if not name:
        return Hooks()
    module_name, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"hooks.python: there is no module {error.name!r} in {folder} or sys.path") from error
        raise ConfigError(f"hooks.python: {module_name} cannot be imported: {error}") from error
    except Exception as error:
        # Whatever code runs there at its import.
        raise ConfigError(f"hooks.python: {module_name} cannot be imported: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"hooks.python: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    if not isinstance(found, Hooks):
        raise ConfigError(f"hooks.python: {name} is a {type(found).__name__}, expected gateway.hooks.Hooks()")
    return found
