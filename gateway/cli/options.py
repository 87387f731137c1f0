"""The options that several commands share: the settings file, flags for single settings, the gateway to talk to."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings
    from gateway.config.sources import Loaded

R = TypeVar("R")
Command = Callable[..., R]


def _joined(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """An option that was given several times, written as a list in a variable; None when it was not given."""
    return ",".join(values) if values else None


# Flags for settings, by dotted name. Their values are checked with the other settings, so that errors are worded alike.
# There are no flags for secrets, which other users of the machine would see in the list of processes.
_FLAGS: Mapping[str, Callable[[Command[Any]], Command[Any]]] = {
    "listen": click.option(
        "--listen",
        metavar="ADDRESS",
        multiple=True,
        callback=_joined,
        help="Public listener: HOST:PORT, *:PORT or unix:PATH; may be repeated. [default: 127.0.0.1:8000]",
    ),
    "internal_listen": click.option(
        "--internal-listen",
        metavar="ADDRESS",
        multiple=True,
        callback=_joined,
        help="Internal listener for metrics, health and the API, as for --listen; '' for none. "
        "[default: 127.0.0.1:9000]",
    ),
    "workers": click.option("--workers", metavar="N", help="Nodes (processes) that share the listener. [default: 1]"),
    "redis.url": click.option(
        "--redis-url",
        metavar="URL",
        help="redis://, rediss:// or unix:// URL of Redis or Valkey. If it has a password, set GATEWAY_REDIS__URL "
        "instead: other users can see command lines.",
    ),
    "demo": click.option(
        "--demo", is_flag=True, default=None, help="Serve the demo chat at / and open the namespace demo."
    ),
    "no_auth": click.option(
        "--no-auth",
        is_flag=True,
        default=None,
        help="Development only: everybody may connect, subscribe, publish and call the API.",
    ),
    "allow_open_network": click.option(
        "--allow-open-network",
        is_flag=True,
        default=None,
        help="Allow --no-auth and --demo on addresses other than loopback, open to that whole network.",
    ),
    "hooks.python": click.option(
        "--hooks", "hooks_python", metavar="MODULE:NAME", help="Your code: an object gateway.hooks.Hooks()."
    ),
    "app": click.option(
        "--app", metavar="MODULE:NAME", help="An ASGI application with a Gateway() in it, to be served with the node."
    ),
    "log.level": click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. [default: info]"),
    "log.format": click.option(
        "--log-format", metavar="FORMAT", help="auto (human on a terminal, else json), human or json."
    ),
}


class Sources(NamedTuple):
    """Where a command gets its settings from. Nothing is read before it is asked for."""

    config_file: Path | None
    # by dotted name, without those that were not given
    flags: Mapping[str, Any]
    # what the application of `app` gives to its Gateway()
    code: Mapping[str, Any] = MappingProxyType({})

    def load(self) -> "ServerSettings":
        """The settings. Raises ConfigError."""
        return self.read().settings

    def found(self) -> "Sources":
        """With the name of the file that is read now: if it vanishes, a reload must fail and not read no file."""
        from gateway.config.sources import settings_file

        return self._replace(config_file=settings_file(self.config_file, os.environ))

    def with_application(self) -> "Sources":
        """With what the code of the application sets, if there is one; it is imported. Raises ConfigError."""
        name = self.load().app
        if not name:
            return self
        from gateway.embedding import load_application

        return self._replace(code=load_application(name).gateway.given)

    def given(self, overrides: Mapping[str, Any]) -> "Sources":
        """With these values, by dotted name, which override every source."""
        return self._replace(flags={**self.flags, **overrides})

    def read(self) -> "Loaded":
        """The settings and where each of them comes from. Raises ConfigError."""
        # Imported here: pydantic takes a tenth of a second, which `gateway --help` need not pay.
        from gateway.config import sources

        return sources.read(self.config_file, self.flags, os.environ, self.code)


def with_settings(*flags: str) -> Callable[[Command[R]], Command[R]]:
    """Give a command `--config` and the flags of these settings (dotted names); it gets one argument, `sources`."""
    names = {name.replace(".", "_"): name for name in flags}

    def decorate(command: Command[R]) -> Command[R]:
        @functools.wraps(command)
        def wrapped(*args: Any, config: Path | None, **kwargs: Any) -> R:
            given = {name: kwargs.pop(key) for key, name in names.items()}
            sources = Sources(config, {name: value for name, value in given.items() if value is not None})
            return command(*args, sources=sources, **kwargs)

        # click lists the option that was added last first.
        decorated: Command[R] = wrapped
        for name in reversed(flags):
            decorated = _FLAGS[name](decorated)
        return _CONFIG(decorated)

    return decorate


_CONFIG = click.option(
    "--config",
    "-c",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Settings file. [default: the file that GATEWAY_CONFIG names, else ./gateway.toml if there is one]",
)
