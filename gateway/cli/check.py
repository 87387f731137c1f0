"""`gateway check`"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import Sources, with_settings
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings


@click.command(short_help="Check the settings and print the effective ones.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@with_settings("listen", "internal_listen", "workers", "redis.url", "demo", "no_auth", "allow_open_network")
def check(sources: Sources, file: Path | None) -> None:
    """Check the settings that `gateway serve` would get from FILE (or --config), from variables and from flags.

    Prints the effective settings as TOML, with secrets masked and the origin of each value, and warns about
    combinations that do not work together. Exit code 1 if a node would not start.
    """
    from gateway.config import checks
    from gateway.config.description import describe

    if file is not None and sources.config_file is not None:
        raise click.UsageError("give one of FILE and --config")
    loaded = sources._replace(config_file=file or sources.config_file).read()
    click.echo(describe(loaded.settings, loaded.origins), nl=False)
    problems = checks.unreadable(loaded.settings) or _unusable(loaded.settings)
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    warnings = checks.warnings(loaded.settings)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if problems:
        raise click.exceptions.Exit(1)
    counted = f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}" if warnings else "no warnings"
    click.echo(f"The settings are valid; {counted}.", err=True)


def _unusable(settings: "ServerSettings") -> list[str]:
    """Errors that only the parts of a node find: keys that cannot be used, a personal namespace that does not exist."""
    from gateway.auth.revocations import Revocations
    from gateway.auth.token_verifier import TokenVerifier
    from gateway.channels import Channels

    problems = []
    for make in (lambda: Channels(settings), lambda: TokenVerifier(settings.auth, Revocations(), time.time)):
        try:
            make()
        except ConfigError as error:
            problems.append(str(error))
    return problems
