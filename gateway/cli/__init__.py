"""The command line. Every command is a module of its own; `options` and `target` have the shared parts."""

import platform
from pathlib import Path
from typing import Any

import click

import gateway
from gateway import __version__
from gateway.cli import (
    check,
    cluster,
    drain,
    explain,
    nodes,
    outbox,
    publish,
    reload,
    revoke,
    schema,
    serve,
    subscribe,
    token,
    url,
)
from gateway.errors import GatewayError

# What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130


class Commands(click.Group):
    """Ends every command with an exit code and at most a few plain lines, never with a traceback of our own errors.

    The help lists the commands by what they are for.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._purposes: dict[str, tuple[click.Command, ...]] = {}

    def add_for(self, purpose: str, *commands: click.Command) -> None:
        """Add commands; the help lists them in this order."""
        self._purposes[purpose] = commands
        for each in commands:
            self.add_command(each)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for purpose, commands in self._purposes.items():
            with formatter.section(purpose):
                # Padded, so that the columns of all sections are the same.
                formatter.write_dl([(f"{each.name:{width}}", each.get_short_help_str()) for each in commands])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GatewayError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            return ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110})
@click.version_option(
    __version__,
    message=f"gateway %(version)s, Python {platform.python_version()}, {Path(gateway.__file__).parent}",
)
def main() -> None:
    """A pub/sub message gateway: WebSocket clients on any node, Redis between the nodes.

    Try it:  gateway cluster --demo

    Then see:  gateway COMMAND --help
    """


main.add_for("Run", serve.serve, cluster.cluster, outbox.outbox)
main.add_for("Try", subscribe.subscribe, publish.publish, url.url, token.token)
main.add_for("Operate", nodes.nodes, reload.reload, drain.drain, revoke.revoke, revoke.kick)
main.add_for("Debug", check.check, explain.explain, schema.schema)
