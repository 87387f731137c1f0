"""Every module has tests that one finds: by its name, or here."""

import ast
from functools import cache
from pathlib import Path

from tests.test_architecture import GRAPH, PACKAGE, reached

TESTS = Path(__file__).parent

# `a/b.py` is tested by `tests/a/test_b.py`. A module without such a file is named here, with the one that tests it
# most: it belongs to another module, or its folder is tested by what clients see.
TESTED_BY = {
    "api/presence.py": "api/test_history.py",
    "api/routes.py": "api/test_api_endpoint.py",
    "api/methods.py": "api/test_api_endpoint.py",
    "api/publications.py": "api/test_publishing.py",
    "api/result_shapes.py": "api/test_api_endpoint.py",
    "auth/identity.py": "auth/test_token_verifier.py",
    "broker/base.py": "broker/test_contract.py",
    "broker/memory/memory_presence.py": "broker/test_presence_contract.py",
    "broker/memory/memory_registry.py": "broker/test_registry_contract.py",
    "broker/memory/memory_streams.py": "broker/test_stream_contract.py",
    "broker/redis/control_log.py": "broker/redis/test_control_messages.py",
    "broker/redis/election.py": "broker/redis/test_ledger.py",
    "broker/redis/event_log.py": "broker/redis/test_ledger.py",
    "broker/redis/generation.py": "broker/redis/test_generations.py",
    "broker/redis/heartbeat.py": "broker/redis/test_links.py",
    "broker/redis/kept_link.py": "broker/redis/test_links.py",
    "broker/redis/lua.py": "broker/redis/test_presence_turns.py",
    "broker/redis/publish_commands.py": "broker/redis/test_room.py",
    "broker/redis/publisher.py": "broker/redis/test_room.py",
    "broker/redis/redis_broker.py": "broker/test_contract.py",
    "broker/redis/sharded_presence.py": "broker/redis/test_shard.py",
    "broker/redis/stream_commands.py": "broker/test_stream_contract.py",
    "broker/redis/stream_reads.py": "broker/test_stream_contract.py",
    "broker/redis/topology.py": "broker/redis/test_shard.py",
    "broker/refusals.py": "broker/test_presence_contract.py",
    "cli/channel_names.py": "cli/test_token.py",
    "cli/asked.py": "cli/test_explain.py",
    "cli/child.py": "cli/test_workers.py",
    "cli/drain.py": "cli/test_http_api.py",
    "cli/follower.py": "cli/test_subscribe.py",
    "cli/nodes.py": "cli/test_http_api.py",
    "cli/options.py": "cli/test_workers.py",
    "cli/publish.py": "cli/test_http_api.py",
    "cli/revoke.py": "cli/test_http_api.py",
    "cli/target.py": "cli/test_subscribe.py",
    "cli/url.py": "cli/test_token.py",
    "cli/ways.py": "cli/test_explain.py",
    "config/fields.py": "config/test_sources.py",
    "config/hosts.py": "config/test_urls.py",
    "config/misspellings.py": "config/test_sources.py",
    "config/named_objects.py": "hooks/test_loading.py",
    "config/redis_url.py": "config/test_urls.py",
    "config/target.py": "cli/test_subscribe.py",
    "config/settings.py": "config/test_sources.py",
    "client/async_client.py": "client/test_client.py",
    "client/async_methods.py": "client/test_client.py",
    "client/commands.py": "client/test_client.py",
    "client/connection.py": "client/test_processes.py",
    "client/failures.py": "client/test_outages.py",
    "client/tries.py": "client/test_calls.py",
    "control.py": "broker/redis/test_control_messages.py",
    "embedding.py": "embedding/test_embedding.py",
    "encoding.py": "hooks/test_conversion.py",
    "entrances/emulation.py": "entrances/test_directory.py",
    "entrances/emulation_endpoint.py": "entrances/test_centrifuge_stream.py",
    "entrances/engineio_endpoint.py": "entrances/test_socketio.py",
    "entrances/engineio_polling.py": "entrances/test_socketio.py",
    "entrances/engineio_socket.py": "entrances/test_socketio.py",
    "entrances/engineio_upgrade.py": "entrances/test_socketio.py",
    "entrances/first_message.py": "entrances/test_centrifuge_stream.py",
    "entrances/shared_paths.py": "entrances/test_centrifuge_stream.py",
    "entrances/stream_carriers.py": "entrances/test_centrifuge_stream.py",
    "entrances/centrifuge_websocket.py": "entrances/test_refused_subprotocols.py",
    "entrances/subprotocols.py": "entrances/test_refused_subprotocols.py",
    "entrances/doors.py": "entrances/test_lines_stream.py",
    "entrances/entrance.py": "entrances/test_lines_stream.py",
    "entrances/channel_url.py": "entrances/test_lines_stream.py",
    "extensions.py": "transports/test_contract.py",
    "hangup.py": "cli/test_processes.py",
    "hooks/answers.py": "hooks/test_conversion.py",
    "hooks/runner.py": "hooks/test_python_hooks.py",
    "hooks/node_hooks.py": "hooks/test_nodes.py",
    "hooks/fitting.py": "hooks/test_loading.py",
    "hooks/decisions.py": "session/test_hooks.py",
    "hooks/questions.py": "session/test_hooks.py",
    "hub/encoder.py": "hub/test_deltas.py",
    "hub/fanout.py": "hub/test_hub.py",
    "in_process.py": "testing/test_testing.py",
    "in_force.py": "api/test_reload.py",
    "listeners.py": "cli/test_listeners.py",
    "messages.py": "broker/test_envelope.py",
    "node/announcements.py": "node/test_node.py",
    "node/joiner.py": "node/test_stream.py",
    "node/slices.py": "node/test_gaps.py",
    "node/tracked.py": "node/test_stream.py",
    "outbox/django/apps.py": "outbox/django/test_models.py",
    "protocols/wire_protocol.py": "protocols/test_centrifuge.py",
    "protocols/centrifuge_commands.py": "protocols/test_centrifuge.py",
    "protocols/centrifuge_protobuf_commands.py": "protocols/test_centrifuge_protobuf.py",
    "protocols/deltas.py": "hub/test_deltas.py",
    "protocols/frames.py": "protocols/test_centrifuge.py",
    "protocols/one_channel.py": "protocols/test_plain.py",
    "publisher/async_publisher.py": "publisher/test_publisher.py",
    "publisher/connections.py": "publisher/test_outages.py",
    "publisher/job.py": "publisher/test_outages.py",
    "publisher/known.py": "publisher/test_publisher.py",
    "publisher/links.py": "publisher/test_outages.py",
    "publisher/place.py": "publisher/test_publisher.py",
    "scheduler.py": "transports/test_scheduler.py",
    "session/asking.py": "session/test_hooks.py",
    "session/commands.py": "session/test_publish.py",
    "session/connecting.py": "session/test_connect.py",
    "session/decoding.py": "session/test_turns.py",
    "session/inbox.py": "session/test_turns.py",
    "session/outgoing.py": "session/test_corking.py",
    "session/ports.py": "session/test_connect.py",
    "session/reading.py": "session/test_pace.py",
    "session/completion.py": "session/test_faults.py",
    "session/expiry.py": "session/test_subscribe.py",
    "session/services.py": "session/test_connect.py",
    "session/session.py": "session/test_connect.py",
    "session/state.py": "session/test_connect.py",
    "session/subscribing.py": "session/test_subscribe.py",
    "session/subscription.py": "session/test_subscribe.py",
    "session/transport.py": "transports/test_contract.py",
    "session/wheel.py": "session/test_heartbeat.py",
    "testing/clients.py": "testing/test_testing.py",
    "testing/clock.py": "testing/test_testing.py",
    "testing/gateways.py": "testing/test_testing.py",
    "testing/messages.py": "testing/test_testing.py",
    "testing/sync.py": "testing/test_testing.py",
    "transports/asgi_transport.py": "transports/websocket/test_asgi_websocket.py",
    "transports/embedding.py": "transports/test_server.py",
    "transports/client_endpoint.py": "transports/test_contract.py",
    "transports/handshake.py": "transports/test_contract.py",
    "transports/http_stream/request_body.py": "entrances/test_centrifuge_stream.py",
    "transports/cors.py": "entrances/test_sse.py",
    "transports/http_options.py": "transports/test_http.py",
    "transports/http_protocol.py": "transports/test_http.py",
    "transports/http_stream/asgi_stream.py": "transports/http_stream/test_stream_contract.py",
    "transports/http_stream/stream_endpoint.py": "transports/http_stream/test_stream_contract.py",
    "transports/http_stream/stream_framing.py": "transports/http_stream/test_stream_contract.py",
    "transports/http_stream/stream_transport.py": "transports/http_stream/test_stream_contract.py",
    "transports/lifespan.py": "test_app.py",
    "transports/responses.py": "transports/test_http.py",
    "transports/socket_transport.py": "transports/http_stream/test_stream_contract.py",
    "transports/websocket/opening.py": "transports/test_upgrades.py",
    "transports/websocket/upgrade.py": "transports/test_upgrades.py",
    "transports/websocket/websocket_endpoint.py": "transports/test_contract.py",
}


@cache
def imported(path: Path) -> frozenset[str]:
    """What a file imports, modules and what is in them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def file_of(module: str) -> Path:
    path = PACKAGE.parent / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def known_to(test: Path) -> frozenset[str]:
    """What a test file imports, by the helpers of the tests as well."""
    names: set[str] = set()
    seen: set[Path] = set()
    waiting = {test, *(folder / "conftest.py" for folder in test.parents if folder.is_relative_to(TESTS))}
    while waiting:
        seen.add(path := waiting.pop())
        if path.exists():
            names |= imported(path)
            waiting |= {file_of(name) for name in imported(path) if name.startswith("tests.")} - seen
    return frozenset(names)


def is_known(module: str, test: Path) -> bool:
    """Whether a test file imports a module, or one that imports it in turn."""
    return any(module in reached(name) for name in known_to(test) & GRAPH.keys())


def unnamed() -> dict[str, str]:
    """The modules without a test file of their name: the path in the package, and the dotted name.

    (Migrations have no names that one could import: the tests of the model run them.)
    """
    paths = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return {
        str(path): ".".join(("gateway", *path.with_suffix("").parts))
        for path in paths
        if not path.name.startswith("__")
        and path.parent.name != "migrations"
        and not (TESTS / path.parent / f"test_{path.name}").exists()
    }


def test_every_module_has_a_test_file_of_its_name_or_is_named_here() -> None:
    """And nothing is named that has one, or is gone."""
    assert unnamed().keys() == TESTED_BY.keys()


def test_the_files_that_are_named_here_test_what_they_are_named_for() -> None:
    wrong = [
        f"{path}: {TESTED_BY[path]} does not import it"
        for path, module in unnamed().items()
        if path in TESTED_BY and not is_known(module, TESTS / TESTED_BY[path])
    ]
    assert wrong == []
