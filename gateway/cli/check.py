"""`gateway check`"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from gateway.cli.options import Sources, with_settings
from gateway.errors import ConfigError
from gateway.log import escape

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings
    from gateway.config.sources import Loaded


class Findings(NamedTuple):
    """Why a node would not work with the settings, and what was probably not meant."""

    errors: list[str]
    warnings: list[str]


@click.command(short_help="Check the settings, and with --connect Redis.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Print all settings, not only those that differ.")
@click.option("--connect", is_flag=True, help="Also ask the Redis of redis.url whether nodes can work with it.")
@with_settings(
    "listen",
    "internal_listen",
    "workers",
    "redis.url",
    "demo",
    "no_auth",
    "allow_open_network",
    "hooks.python",
    "app",
)
def check(sources: Sources, file: Path | None, everything: bool, connect: bool) -> None:
    """Check the settings that `gateway serve` would get from FILE (or --config), from variables and from flags.

    The verdict comes first, on standard error: errors, and warnings about combinations that do not work together.
    Unless there are errors, the settings that differ from the defaults follow on standard output as TOML, with secrets
    masked and the origin of each value. Exit code 1 if a node would not start.

    The hooks and models of your code (--hooks, or --app for those of an application) are imported, and have to fit the
    settings; nothing is started.

    With --connect, Redis is asked as well: version, role, eviction, persistence, the number of partitions in use, and
    the rights of the user. For the latter it writes a key that no node uses, and removes it.

    \b
    gateway check --connect
    gateway check deploy/gateway.toml --all
    """
    from gateway.config import checks

    if file is not None and sources.config_file is not None:
        raise click.UsageError("give one of FILE and --config")
    loaded = sources._replace(config_file=file or sources.config_file).with_application().read()
    settings = loaded.settings
    found = Findings(checks.unreadable(settings) or _unusable(settings), [*loaded.warnings, *checks.warnings(settings)])
    facts = _ask_engine(settings, found) if connect and not found.errors else []
    _print_verdict(found, facts)
    if found.errors:
        raise click.exceptions.Exit(1)
    click.echo(err=True)
    _print_settings(loaded, everything=everything)


def _ask_engine(settings: "ServerSettings", found: Findings) -> list[str]:
    """Adds what the engine's server answers to the findings, and returns what it is."""
    import asyncio

    from gateway.app import survey_engine

    answer = asyncio.run(survey_engine(settings))
    found.errors.extend(answer.errors)
    found.warnings.extend(answer.warnings)
    return answer.facts


def _print_verdict(found: Findings, facts: list[str]) -> None:
    errors, warnings = _counted(found.errors, "error"), _counted(found.warnings, "warning")
    valid = f"The settings are valid; {warnings}."
    click.echo(f"Nodes would not work with these settings: {errors}, {warnings}." if found.errors else valid, err=True)
    for label, lines in (("Error", found.errors), ("Warning", found.warnings), ("Redis", facts)):
        for line in lines:
            # Servers and variables may contain anything.
            click.echo(f"{label}: {escape(line)}", err=True)


def _counted(lines: list[str], noun: str) -> str:
    return f"{len(lines) or 'no'} {noun}{'' if len(lines) == 1 else 's'}"


def _print_settings(loaded: "Loaded", *, everything: bool) -> None:
    from gateway.config.description import describe

    text = describe(loaded.settings, loaded.origins, everything=everything)
    if not everything:
        click.echo(f"# {'Differs' if text else 'Nothing differs'} from the defaults; --all prints all settings.")
    click.echo(text, nl=False)


def _unusable(settings: "ServerSettings") -> list[str]:
    """Errors that only the parts of a node find: keys, origins or certificates that cannot be used, for example."""
    from gateway.auth.origins import OriginPolicy
    from gateway.auth.revocations import Revocations
    from gateway.auth.token_verifier import TokenVerifier
    from gateway.channels import Channels
    from gateway.cli.asked import Asked
    from gateway.cli.serve import worker_settings
    from gateway.hooks.fitting import check_fit
    from gateway.transports.tls import tls_context

    problems = []
    for make in (
        lambda: check_fit(Asked(settings).hooks, settings, Channels(settings)),
        lambda: TokenVerifier(settings.auth, Revocations(), time.time),
        lambda: OriginPolicy(settings.origins, settings.auth.cookie),
        lambda: tls_context(settings.tls),
        lambda: settings.workers == 1 or worker_settings(settings),
    ):
        try:
            make()
        except ConfigError as error:
            problems.append(str(error))
    return problems
