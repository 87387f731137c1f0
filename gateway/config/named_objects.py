"""Objects that settings name: MODULE:NAME."""

import importlib
import sys
from pathlib import Path

from gateway.errors import ConfigError


def named_object(name: str, setting: str) -> object:
    """The object that `package.module:attribute` names. Raises ConfigError, which begins with the setting.

    The folder in which the command was started comes first, as with `python -m`.
    """
    module_name, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: object = importlib.import_module(module_name)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{setting}: there is no module {error.name!r} in {folder} or sys.path") from error
        raise ConfigError(f"{setting}: {module_name} cannot be imported: {error}") from error
    except Exception as error:
        # Whatever code runs there at its import.
        raise ConfigError(f"{setting}: {module_name} cannot be imported: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{setting}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    return found
