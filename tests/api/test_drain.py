"""Drain: the clients of one node are sent to the others, and the node stays up."""

import socket

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.api.clients import PATIENCE, close_of, native, plain, settled
from tests.api.conftest import Api
from tests.api.site import running, settings_of
from tests.transports.raw import handshake


@pytest.mark.parametrize("by", ["name", "uid"])
def test_clients_are_sent_away_and_no_others_let_in(by: str) -> None:
    """With a code on which they come back; not ready, but alive, and the API goes on."""
    with running(settings_of(node_name="one")) as site, Api(site) as api:
        (node,) = api.call("info")["nodes"]
        with native(site) as one, settled(site, "news") as other, plain(site, "chat:a"):
            assert api.call("drain", node=node[by]) == {"num_clients": 3}
            assert one.close_code() == (3001, "shutdown")
            assert close_of(other) == (3001, "shutdown")
        with pytest.raises(InvalidStatus, match="503"), plain(site, "news"):
            pass
        ready = httpx.get(f"http://{site.public}/health/ready", trust_env=False)
        assert (ready.status_code, ready.json()["reason"]) == (503, "draining")
        assert httpx.get(f"http://{site.public}/health/live", trust_env=False).status_code == 200
        assert api.call("publish", channel="news", data=1) == {}
        # Again: nothing is left to do.
        assert api.call("drain", node=node[by]) == {"num_clients": 0}


def test_whoever_is_connected_in_whatever_state_is_sent_away() -> None:
    """Those too that have not authenticated, or not even asked for a WebSocket: the drain knows all."""
    with running(settings_of(node_name="one")) as site, Api(site) as api:
        host, port = site.public.split(":")
        url = f"ws://{site.public}/connection/websocket"
        with socket.create_connection((host, int(port)), PATIENCE) as silent, connect(url, proxy=None) as opened:
            assert api.call("drain", node="one") == {"num_clients": 0}
            assert close_of(opened) == (3001, "shutdown")
            silent.sendall(handshake("/connection/websocket"))
            assert silent.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_a_node_that_is_not_there_is_said() -> None:
    """With the names of those that are."""
    with running(settings_of(node_name="one")) as site, Api(site) as api:
        code, message = api.error("drain", node="two")
        assert code == 107
        assert message == "bad request: node 'two': no such node; the nodes are: one"
        with native(site) as client:
            assert client.command(subscribe={"channel": "news"})["subscribe"] == {}
