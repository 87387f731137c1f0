"""`gateway outbox`"""

import sys
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.http_api import api_of, key_option
from gateway.cli.options import Sources, with_settings
from gateway.cli.target import url_option
from gateway.errors import GatewayError
from gateway.log import escape

if TYPE_CHECKING:
    from gateway.outbox.relay import Relay

EXTRA = "this command needs PostgreSQL's driver: pip install 'pubsub-gateway[outbox]'"


@click.command(short_help="Publish what applications write into the table gateway_outbox.")
@click.option(
    "--database",
    envvar="DATABASE_URL",
    show_envvar=True,
    required=True,
    metavar="URL",
    help="postgresql://USER@HOST:PORT/DATABASE. If it has a password, set DATABASE_URL or PGPASSWORD instead: other "
    "users can see command lines.",
)
@click.option("--failed", is_flag=True, help="Print the rows that the gateway refused, and end.")
@click.option("--retry", is_flag=True, help="Let the relay publish the rows that the gateway refused again, and end.")
@click.option(
    "--poll",
    type=click.FloatRange(0.01, 30),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look for rows that no trigger notifies of.",
)
@url_option
@key_option
@with_settings("log.level", "log.format")
def outbox(
    sources: Sources, database: str, failed: bool, retry: bool, poll: float, url: str | None, api_key: str | None
) -> None:
    """Publish what applications write into the table gateway_outbox of a PostgreSQL database, until Ctrl-C.

    Start as many as you like: one of them publishes, the others stand by and take over when it dies.

    \b
    gateway outbox --database postgresql://app@db/app --url http://gateway:9000
    gateway outbox --failed
    """
    import asyncio

    try:
        from gateway.outbox.postgres import parameters
    except ImportError as error:
        raise GatewayError(f"{EXTRA} ({error})") from error

    if failed and retry:
        raise click.UsageError("give one of --failed and --retry")
    given = parameters(database)
    if failed or retry:
        asyncio.run(_print_failed(given) if failed else _retry(given))
        return
    from gateway import log
    from gateway.client import AsyncClient

    log.configure(sources.load().log, sys.stderr)
    api = api_of(sources, url, api_key)
    asyncio.run(_relay(given, AsyncClient(api.target.name, api.key), poll))


async def _relay(given: dict[str, Any], client: Any, poll: float) -> None:
    from functools import partial

    from gateway.outbox.http_sender import HttpSender
    from gateway.outbox.postgres import opened
    from gateway.outbox.relay import Relay

    async with client:
        await _until_signalled(Relay(partial(opened, given), HttpSender(client), poll=poll))


async def _until_signalled(relay: "Relay") -> None:
    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, relay.stop)
    await relay.run()


async def _print_failed(given: dict[str, Any]) -> None:
    from gateway.outbox.postgres import opened

    async with opened(given) as store:
        rows = await store.failed()
        count, age = await store.waiting()
    for row, error in rows:
        time = row.created_at.isoformat(timespec="seconds")
        click.echo(escape(f"{row.id} {time} {row.channel} {row.publication} {error}"))
    since = f", the first of them for {age} s" if count else ""
    click.echo(f"{len(rows)} refused; {count} waiting{since}", err=True)


async def _retry(given: dict[str, Any]) -> None:
    from gateway.outbox.postgres import opened

    async with opened(given) as store:
        click.echo(f"{await store.retry()} rows will be published again", err=True)
