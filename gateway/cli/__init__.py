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
    publish,
    reload,
    revoke,
    serve,
    subscribe,
    token,
    url,
)
from gateway.errors import GatewayError

# What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130


class Commands(click.Group):
    """Ends every command with an exit code and at most a few plain lines, never with a traceback of our own errors."""

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


for command in (
    serve.serve,
    cluster.cluster,
    check.check,
    explain.explain,
    token.token,
    url.url,
    publish.publish,
    subscribe.subscribe,
    revoke.revoke,
    drain.drain,
    reload.reload,
    nodes.nodes,
):
    main.add_command(command)
