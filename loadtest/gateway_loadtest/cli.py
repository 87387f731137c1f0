"""The command `gateway-loadtest`."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console

from gateway_loadtest import __version__
from gateway_loadtest.command_groups import Groups
from gateway_loadtest.peers.measurement import measure as measure_peers
from gateway_loadtest.peers.side_by_side import table as peer_table
from gateway_loadtest.planning import scenarios
from gateway_loadtest.planning.plan import LONGEST, PROTOCOLS, Plan, StagePlan, UsageError
from gateway_loadtest.planning.preflight import PreflightError
from gateway_loadtest.reporting import capacity, comparison, report_page, summary
from gateway_loadtest.reporting.display import Display
from gateway_loadtest.results import result
from gateway_loadtest.results.result import Outcome, Result
from gateway_loadtest.running.coordinator import run as run_plan

# Exit status by outcome; 2 is wrong usage.
STATUS: dict[Outcome, int] = {
    "passed": 0, "lost": 1, "refused": 1, "invalid": 3, "broken": 3, "unreachable": 4, "disconnected": 4,
    "interrupted": 130,
}  # fmt: skip
# Columns where the output is no terminal.
WIDTH = 140
STDOUT = Path("-")
F = TypeVar("F", bound=Callable[..., Any])

_COMMON = (
    click.option("--target", "targets", multiple=True, required=True, metavar="URL",
                 help="ws://HOST:PORT of a node, or of a balancer (http:// for protocols over HTTP); several times for "
                      "several nodes."),
    click.option("--protocol", type=click.Choice(PROTOCOLS), default="centrifuge", show_default=True,
                 help="centrifuge: Centrifugo and the gateway; over HTTP with _http_stream or _sse. sse: "
                      "/sse/{channel} of the gateway. raw: {channel} in the target, frames are messages."),
    click.option("--token-secret", envvar="LOADTEST_TOKEN_SECRET", default="", metavar="SECRET",
                 help="HMAC secret of the server: every client gets a token of its own. Env: LOADTEST_TOKEN_SECRET."),
    click.option("--prefix", default="load-", show_default=True,
                 help="Channels are named PREFIX0, PREFIX1, ...; one with a namespace is chat: for example."),
    click.option("--workers", type=click.IntRange(0), default=0, help="Processes; 0: one per core but one."),
    click.option("--connect-rate", type=click.FloatRange(1), default=500.0, show_default=True,
                 help="Connections opened per second."),
    click.option("--connect-timeout", type=click.FloatRange(1), default=60.0, show_default=True,
                 help="Seconds for those that are late."),
    click.option("--grace", type=click.FloatRange(0), default=10.0, show_default=True,
                 help="Seconds of silence after which what is missing is lost."),
    click.option("--source", "sources", multiple=True, metavar="ADDRESS", help="Connect from it; several times."),
    click.option("--pid", "pids", type=int, multiple=True, help="A server process here; else found by its port."),
    click.option("--metrics", multiple=True, metavar="URL", help="A /metrics page of a server; several times."),
    click.option("--redis", default="", metavar="URL", help="The Redis between the nodes, to look at."),
    click.option("--max-loss", type=click.IntRange(0), default=0, show_default=True,
                 help="Deliveries that may be lost, doubled, out of order or for somebody else."),
    click.option("--max-refused", type=click.IntRange(0), default=None,
                 help="Publications that may be refused, or lose their connection before the answer. Default: 0; any "
                      "number where --command breaks something."),
    click.option("--seed", type=int, default=1, show_default=True, help="All that is random follows from it."),
    click.option("--json", "json_file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
                 help="Write the result; -: to standard output, and the summary to standard error."),
    click.option("--html", "html_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."),
    click.option("--quiet", is_flag=True, help="Only the summary."),
)  # fmt: skip


def lasting(seconds: float, what: str = "it") -> Callable[[F], F]:
    """The option --seconds with its default."""
    return click.option("--seconds", type=click.FloatRange(0, LONGEST), default=seconds, show_default=True,
                        help=f"How long {what} lasts.")  # fmt: skip


def common(command: F) -> F:
    for option in reversed(_COMMON):
        command = option(command)
    return command


def load(*, channels: int, members: int, rate: float, payload: int = 128) -> Callable[[F], F]:
    """The options of a scenario that publishes, with its defaults."""
    options = (
        click.option("--channels", type=click.IntRange(1), default=channels, show_default=True),
        click.option("--members", type=click.IntRange(1), default=members, show_default=True,
                     help="Subscribers of each channel."),
        click.option("--channels-per-connection", type=click.IntRange(1), default=1, show_default=True),
        click.option("--rate", type=click.FloatRange(0, min_open=True), default=rate, show_default=True,
                     help="Publications per channel and second."),
        click.option("--payload", type=click.IntRange(1), default=payload, show_default=True, help="Bytes of each."),
    )  # fmt: skip

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(cls=Groups, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway-loadtest")
def main() -> None:
    """Load-test a WebSocket pub/sub backend: latency from the moment a message was due, and every message counted.

    Exit status: 0 all well; 1 messages were lost, doubled, out of order, for somebody else or not accepted; 2 wrong
    usage; 3 this tool or its machine was the bottleneck, or a command failed, so the figures say little of the server;
    4 a target could not be reached or refused, or clients did not come back; 130 Ctrl-C.

    Try it on the nodes of `gateway cluster --no-auth`:

    \b
      gateway-loadtest rooms --target ws://127.0.0.1:8001 --target ws://127.0.0.1:8002

    Then see:  gateway-loadtest COMMAND --help
    """


@main.command()
@click.option("--connections", type=click.IntRange(1), default=1000, show_default=True)
@lasting(10.0)
@common
def idle(connections: int, **options: Any) -> None:
    """Hold connections that do nothing: memory and CPU of each."""
    _go("idle", options, scenarios.idle(options.pop("seconds")), idle=connections)


@main.command()
@load(channels=1, members=500, rate=10.0)
@lasting(15.0)
@common
def fanout(**options: Any) -> None:
    """One channel with many subscribers."""
    _go("fanout", options, scenarios.steady(options.pop("seconds")))


@main.command()
@load(channels=100, members=10, rate=1.0)
@lasting(15.0)
@common
def rooms(**options: Any) -> None:
    """Many channels with some members each."""
    _go("rooms", options, scenarios.steady(options.pop("seconds")))


@main.command()
@load(channels=50, members=1, rate=2.0)
@lasting(15.0)
@common
def latency(**options: Any) -> None:
    """Little load: how long one message takes."""
    _go("latency", options, scenarios.steady(options.pop("seconds")))


@main.command()
@load(channels=50, members=10, rate=1.0)
@click.option("--drop", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share that is cut at once.")
@click.option("--back-within", type=click.FloatRange(0), default=1.0, show_default=True,
              help="Seconds over which they come back.")  # fmt: skip
@lasting(15.0, "the storm, between 5 calm seconds before and 5 after,")
@common
def storm(drop: float, **options: Any) -> None:
    """Many lose their connection at once and come back."""
    _go("storm", options, scenarios.storm(options.pop("seconds"), drop))


@main.command()
@load(channels=50, members=10, rate=1.0)
@click.option("--command", "commands", multiple=True, required=True, help="Restarts one node; several times.")
@click.option("--pause", type=click.FloatRange(0), default=5.0, show_default=True, help="Seconds between commands.")
@lasting(30.0, "the rolling, between 5 calm seconds before and 5 after,")
@common
def rolling(commands: tuple[str, ...], pause: float, **options: Any) -> None:
    """Nodes are restarted one after the other by the commands given."""
    _go("rolling", options, scenarios.rolling(options.pop("seconds"), commands, pause))


@main.command()
# Enough for what a socket buffers here and there to be full: until then nobody is slow for the server.
@load(channels=5, members=20, rate=20.0, payload=16384)
@click.option("--stop", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share that stops reading.")
@lasting(20.0, "the slowness, between 5 calm seconds before and 5 after,")
@common
def slow(stop: float, **options: Any) -> None:
    """Some subscribers stop reading for a while."""
    _go("slow", options, scenarios.slow(options.pop("seconds"), stop))


@main.command()
@load(channels=100, members=10, rate=1.0)
@lasting(3600.0)
@common
def soak(**options: Any) -> None:
    """As rooms, for long: whether memory and latency stay where they are."""
    _go("soak", options, scenarios.steady(options.pop("seconds")))


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@common
def mix(file: Path, **options: Any) -> None:
    """A scenario from a TOML file, with stages of its own."""
    out = _outputs(options)
    try:
        plan = scenarios.of_file(file, {**options, "scenario": f"mix {file.name}"}, _given())
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    _run(plan, *out)


@main.command(name="peers")
@click.argument("names", nargs=-1)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Where npm and pip install the peers.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures.")
def peers_command(names: tuple[str, ...], cache: Path | None, json_file: Path | None) -> None:
    """Start and measure servers side by side.

    They are the gateway, a bare C send loop, Node, NATS, Nchan and others. With NAMES only those that contain one of
    them. What is not installed is named, with how to get it.
    """
    try:
        found = measure_peers(names, cache=cache, say=lambda text: click.echo(text, err=True))
    except (UsageError, PreflightError) as error:
        raise click.UsageError(str(error)) from None
    click.echo(peer_table(found))
    if json_file is not None:
        _write(lambda: json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found))), json_file)


@main.command(name="report")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--html", "html_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report there.")
def report_command(file: Path, html_file: Path | None) -> None:
    """Show a result again, or make its report."""
    found = _read(file)
    if html_file is not None:
        _write(lambda: html_file.write_text(report_page.render(found)), html_file)
    summary.show(found, _console())


@main.command(name="capacity")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--connections", type=click.IntRange(1), required=True)
@click.option("--publishes", type=click.FloatRange(0), required=True, help="Per second.")
@click.option("--subscribers", type=click.FloatRange(0), required=True, help="That a publication reaches, on average.")
@click.option(
    "--back-within",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Seconds in which all have to reconnect.",
)
@click.option(
    "--headroom",
    type=click.FloatRange(0.01, 1),
    default=0.5,
    show_default=True,
    help="Share of each core that may be used.",
)
@click.option(
    "--quiet-channels",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="With history, subscribed, and nothing arrives; counted at each node.",
)
@click.option("--node-memory", type=click.FloatRange(0.01), default=2.0, show_default=True,
              help="GiB for the connections of a node.")  # fmt: skip
def capacity_command(
    file: Path, connections: int, publishes: float, subscribers: float, back_within: float, headroom: float,
    quiet_channels: int, node_memory: float,
) -> None:  # fmt: skip
    """How many nodes a load needs, by the costs in a result; docs/scaling.md has the model."""
    demand = capacity.Demand(connections, publishes, subscribers, back_within, quiet_channels)
    try:
        found = _read(file)
        needed = capacity.capacity(demand, capacity.costs_of(found), headroom=headroom, node_memory=node_memory)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    for doubt in capacity.doubts(found):
        click.echo(f"Careful: {doubt}.", err=True)
    click.echo(f"nodes: {needed.nodes:,} (a core each; {needed.reason})")
    click.echo(f"  for deliveries {needed.by_deliveries:,}, for memory {needed.by_connections:,}, "
               f"for reconnects {needed.by_reconnects:,}")  # fmt: skip
    click.echo(f"Redis: {needed.redis_cores:.2f} cores")
    if needed.redis_instances > 1:
        click.echo(f"  more than one instance takes: {needed.redis_instances:,} shards, which the gateway has not yet")


@main.command(name="compare")
@click.argument("before", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--max-regression", default="10%", show_default=True, help="How much worse a figure may be.")
def compare_command(before: Path, after: Path, max_regression: str) -> None:
    """Compare two results; exit status 1 when a figure became worse by more than allowed."""
    share = max_regression.strip().removesuffix("%")
    try:
        limit = float(share) / 100
        if not (math.isfinite(limit) and limit >= 0):
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{max_regression!r} is no percentage", param_hint="--max-regression") from None
    compared = comparison.compare(_read(before), _read(after), limit)
    comparison.show(compared, _console())
    sys.exit(compared.status)


def _console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; where there is none, as wide as the widest table."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH)


def _given() -> set[str]:
    """The options that stand on the command line."""
    context = click.get_current_context()
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


def _outputs(options: dict[str, Any]) -> tuple[Path | None, Path | None, bool]:
    return options.pop("json_file"), options.pop("html_file"), options.pop("quiet")


def _go(scenario: str, options: dict[str, Any], stages: tuple[StagePlan, ...], **more: Any) -> None:
    out = _outputs(options)
    try:
        plan = Plan(scenario=scenario, stages=stages, **options, **more)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    _run(plan, *out)


def _run(plan: Plan, json_file: Path | None, html_file: Path | None, quiet: bool) -> None:
    alone = json_file == STDOUT
    for path in (None if alone else json_file, html_file):
        _check_writable(path)
    errors = _console(stderr=True)
    with Display(plan, errors, quiet=quiet) as display:
        try:
            found = run_plan(plan, display.show)
        except PreflightError as error:
            raise click.UsageError(str(error)) from None
    # Before anything is printed: whoever reads it may go away.
    if alone:
        click.echo(result.encode(found), nl=False)
    elif json_file is not None:
        _write(lambda: json_file.write_bytes(result.encode(found)), json_file)
    if html_file is not None:
        _write(lambda: html_file.write_text(report_page.render(found)), html_file)
    summary.show(found, _console(stderr=alone))
    sys.exit(STATUS[found.outcome])


def _check_writable(path: Path | None) -> None:
    """Before a run, whose figures would be gone."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise click.UsageError(f"{path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.UsageError(f"{path}: may not be written")


def _write(write: Callable[[], object], path: Path) -> None:
    try:
        write()
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def _read(path: Path) -> Result:
    try:
        return result.read(path)
    except result.ResultError as error:
        raise click.UsageError(str(error)) from None
