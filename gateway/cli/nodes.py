"""`gateway nodes`"""

import json
from collections.abc import Sequence
from typing import Any

import click

from gateway.cli.http_api import Api, with_api
from gateway.errors import GatewayError
from gateway.log import escape

_HEADER = ("NAME", "VERSION", "UPTIME", "CLIENTS", "USERS", "SUBS", "CHANNELS", "CPU", "MEMORY", "SETTINGS", "")


@click.command(short_help="List the nodes of a running cluster.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer of the API as it is.")
@with_api
def nodes(api: Api, as_json: bool) -> None:
    """List the nodes of a running cluster with their connections, subscriptions and resources.

    SETTINGS is a digest of the settings that have to be the same on all nodes. For a node that differs from the
    majority, the last column says in which sections; `gateway reload` or a restart of that node helps.

    \b
    gateway nodes --url https://gateway.example.com
    """
    result = api.call("info", {})
    listed = result.get("nodes")
    if not isinstance(listed, list) or not all(isinstance(node, dict) for node in listed):
        raise GatewayError(f"{api.target.name} did not answer with a list of nodes")
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    rows = [_HEADER, *(_row(node) for node in listed)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row in rows:
        click.echo(_line(row, widths))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Texts to the left, numbers to the right."""
    cells = [
        cell.ljust(width) if column < 2 or column == len(row) - 1 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    process = node.get("process") or {}
    counts = (node.get(name, 0) for name in ("num_clients", "num_users", "num_subs", "num_channels"))
    cells = (
        node.get("name", ""),
        node.get("version", ""),
        _duration(node.get("uptime", 0)),
        *counts,
        f"{process.get('cpu', 0)} s",
        f"{process.get('rss', 0) // 2**20} MiB",
        str(node.get("settings", "")),
        _remarks(node),
    )
    return tuple(escape(str(cell)) for cell in cells)


def _remarks(node: dict[str, Any]) -> str:
    remarks = ["draining"] if node.get("draining") else []
    differs = node.get("differs")
    if isinstance(differs, list) and differs:
        sections = [str(name) for name in differs if name != "bus"]
        remarks += [f"settings differ: {', '.join(sections)}"] if sections else []
        remarks += [f"bus version differs: {node.get('bus')}"] if "bus" in differs else []
    return "; ".join(remarks)


def _duration(seconds: int) -> str:
    days, rest = divmod(int(seconds), 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}d {clock}" if days else clock
