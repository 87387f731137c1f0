"""A node started with what the chart gives a pod: it turns ready, and goes in its time."""

import json
import signal
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.cli.commands import PATIENCE, command, get, wait_for
from tests.kubernetes.chart import container_of, pod_of, render
from tests.kubernetes.pod import environment, service_links, settings_file
from tests.servers import valkey_server

pytestmark = pytest.mark.slow

VALUES = {
    "settings": {
        # Long enough for a client to come in between.
        "drain": {"delay": 3, "window": 0.5},
        "auth": {"anonymous": True},
        "channels": {"allow_subscribe": ["anonymous"]},
    }
}


def test_a_pod_turns_ready_takes_clients_while_balancers_notice_and_ends_in_time(tmp_path: Path) -> None:
    """Also with the variables that a Service called gateway would bring, should somebody switch them on."""
    manifests = render(VALUES)
    container, grace = container_of(manifests), pod_of(manifests)["terminationGracePeriodSeconds"]
    ready, live = (container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("readiness", "liveness"))
    with valkey_server() as server:
        here = {
            "GATEWAY_CONFIG": str(settings_file(manifests, tmp_path)),
            "GATEWAY_LISTEN": "127.0.0.1:0",
            "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0",
            "GATEWAY_REDIS__URL": server.url,
        }
        env = {**environment(manifests), **service_links(manifests), **here}
        with command(*container["args"], cwd=tmp_path, env=env) as node:
            serving = json.loads(node.expect('"serving"')[0])
            wait_for(lambda: get(serving["internal"], ready)[0] == 200)
            url = f"{serving['public'].replace('http', 'ws')}/ws/room"
            with connect(url) as early:
                node.process.send_signal(signal.SIGTERM)
                wait_for(lambda: get(serving["internal"], ready)[0] == 503)
                assert get(serving["internal"], live)[0] == 200
                with connect(url) as late:
                    for client in (early, late):
                        with pytest.raises(ConnectionClosed):
                            client.recv(timeout=PATIENCE)
                        assert client.close_code == 3001
            assert node.process.wait(grace) == 0
            assert "Traceback" not in "".join(node.errors)
