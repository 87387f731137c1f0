"""`gateway drain`"""

import click

from gateway.cli.http_api import Api, with_api


@click.command(short_help="Send the clients of one node to the others.")
@click.argument("node", metavar="NODE")
@with_api
def drain(api: Api, node: str) -> None:
    """Send the clients of the node NODE (its name or uid, see `gateway nodes`) to the others.

    The node turns unready and closes its connections within drain.window seconds, with a code after which clients
    reconnect to another node. It keeps running, without clients, until it is stopped.

    \b
    gateway drain node-2
    """
    result = api.call("drain", {"node": node})
    click.echo(f"node {node} drains: {result.get('num_clients', 0)} connections")
