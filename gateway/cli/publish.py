"""`gateway publish`"""

import json
import sys

import click

from gateway.cli.http_api import Api, with_api
from gateway.log import escape


@click.command(short_help="Publish a message to a channel.")
@click.argument("channel")
@click.argument("data")
@click.option("--text", is_flag=True, help="DATA is a text, not JSON.")
@click.option(
    "--idempotency-key", metavar="KEY", help="Repeating the command with the same key within 5 minutes is harmless."
)
@with_api
def publish(api: Api, channel: str, data: str, text: bool, idempotency_key: str | None) -> None:
    """Publish DATA (JSON, or - for standard input) to CHANNEL of a running gateway.

    \b
    gateway publish chat:room '{"text": "hello"}'
    gateway publish chat:room --text hello
    """
    if data == "-":
        data = sys.stdin.read()
    value = data if text else _json(data)
    body = {"channel": channel, "data": value}
    if idempotency_key is not None:
        body["idempotency_key"] = idempotency_key
    result = api.call("publish", body)
    position = f" at offset {result['offset']}, epoch {escape(str(result.get('epoch')))}" if "offset" in result else ""
    click.echo(f"published{position}")


def _json(data: str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON ({error}); --text publishes it as it is", param_hint="DATA") from error
