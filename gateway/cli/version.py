"""`gateway version`"""

import platform
from pathlib import Path

import click

import gateway


@click.command(short_help="Print version and place of the package.")
def version() -> None:
    """Print the version, the Python that runs it, and where the package is installed."""
    path = Path(gateway.__file__).parent
    click.echo(f"gateway {gateway.__version__}, Python {platform.python_version()}, {path}")
