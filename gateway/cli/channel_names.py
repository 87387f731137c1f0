"""Names of channels in command lines, before anything is made of them: impossible ones, and misspelt namespaces."""

import difflib
from typing import TYPE_CHECKING

import click

from gateway.errors import ConfigError
from gateway.log import escape

if TYPE_CHECKING:
    from gateway.channels import Channels
    from gateway.config.settings import ServerSettings


def require(name: str) -> None:
    """Raises ConfigError for a name that no channel can have."""
    from gateway.channels import NAME

    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a channel: expected 1 to 255 characters of printable ASCII, no spaces")


def warn_of_namespace(name: str, settings: "ServerSettings") -> None:
    """On standard error, if the settings lack the namespace of this name. It may exist with those of the node."""
    from gateway.channels import Channels
    from gateway.errors import RequestError

    # The namespace of the demo is one of a flag that the node has and this command has not.
    channels = Channels(settings.model_copy(update={"demo": True}))
    try:
        channels.resolve("default", name)
    except RequestError as error:
        detail = f"{error.detail} in the settings here{similar(name, channels)}"
        click.echo(f"warning: channel {escape(name)}: {detail}", err=True)


def similar(channel: str, channels: "Channels") -> str:
    """The question whether another channel was meant, if its namespace is misspelt; otherwise empty."""
    mark = "$" if channel.startswith("$") else ""
    namespace, colon, rest = channel.removeprefix(mark).partition(":")
    known = {each.lower(): each for each in channels.namespaces}
    close = difflib.get_close_matches(namespace.lower(), known, n=1)
    return f"; did you mean {mark}{known[close[0]]}:{rest}?" if colon and close else ""
