"""`gateway reload`"""

from typing import Any

import click

from gateway.cli.http_api import Api, with_api
from gateway.errors import GatewayError
from gateway.log import escape


@click.command(short_help="Make running nodes read their settings again.")
@click.argument("node", metavar="[NODE]", required=False, default="")
@with_api
def reload(api: Api, node: str) -> None:
    """Make the node NODE (its name or uid, see `gateway nodes`), or all nodes, read their settings again.

    A node reads the file that it was started with; variables and flags keep their values. Namespaces, keys, origins
    and limits change without closing a connection. The answer names changed settings that need a restart. If the
    settings of a node are wrong, nothing changes there, and the exit code is 1. SIGHUP does the same for one process.

    The API is called with the first key of api.keys in the settings here. If the nodes do not know that key yet, give
    one that they know with --api-key.

    \b
    gateway reload
    gateway reload node-2
    """
    nodes = api.call("reload", {"node": node} if node else {}).get("nodes")
    if not isinstance(nodes, list) or not nodes or not all(isinstance(each, dict) for each in nodes):
        raise GatewayError(f"{api.target.name} did not answer with a list of nodes")
    for each in nodes:
        click.echo(_line(each), err=bool(each.get("error")))
    if any(each.get("error") for each in nodes):
        raise click.exceptions.Exit(1)


def _line(node: dict[str, Any]) -> str:
    name = escape(str(node.get("name", "")))
    if error := node.get("error"):
        lines = [escape(line) for line in str(error).splitlines()]
        return f"node {name}: nothing was changed: " + "\n".join(lines)
    changed, waiting = _names(node, "changed"), _names(node, "needs_restart")
    line = f"node {name}: {f'changed {changed}' if changed else 'nothing has changed'}"
    return f"{line}; needs a restart for {waiting}" if waiting else line


def _names(node: dict[str, Any], field: str) -> str:
    names = node.get(field)
    return ", ".join(escape(str(name)) for name in names) if isinstance(names, list) else ""
