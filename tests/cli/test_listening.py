"""Commands on several addresses, as processes."""

from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.cli.commands import command, get
from tests.cli.conftest import Run
from tests.cli.test_serve import addresses
from tests.servers import free_port, valkey_server

QUICK = {"GATEWAY_DRAIN__WINDOW": "0"}


def test_a_node_serves_on_all_its_addresses(tmp_path: Path) -> None:
    """Flags several times or with commas, on both listeners, of every kind; all stand in the log."""
    port, internal = free_port(1), free_port()
    path = tmp_path / "gateway.sock"
    arguments = ("serve", "--listen", f"127.0.0.1:{port}", "--listen", f"*:{port + 1},unix:{path}")
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": f"[::1]:{internal}, 127.0.0.1:{internal}"}
    with command(*arguments, cwd=tmp_path, env=env) as node:
        public, internal_urls = addresses(node)
        assert public.split() == [f"http://127.0.0.1:{port}", f"http://[::]:{port + 1}", f"unix:{path}"]
        assert internal_urls.split() == [f"http://[::1]:{internal}", f"http://127.0.0.1:{internal}"]
        for url in (f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}", f"[::1]:{port + 1}"):
            assert get(f"http://{url}", "/health/ready")[0] == 200
        for url in internal_urls.split():
            assert get(url, "/metrics")[0] == 200
        assert path.exists()
        assert node.end() == 0
    assert not path.exists()


def test_one_client_is_one_address_whatever_socket_it_comes_through(tmp_path: Path) -> None:
    """A socket for both families shows an IPv4 client as ::ffff:127.0.0.1; it counts, and is trusted, as 127.0.0.1."""
    port = free_port(1)
    env = {
        **QUICK,
        "GATEWAY_LISTEN": f"127.0.0.1:{port},*:{port + 1}",
        "GATEWAY_INTERNAL_LISTEN": "",
        "GATEWAY_AUTH__ANONYMOUS": "true",
        "GATEWAY_LIMITS__CONNECTIONS_PER_ADDRESS": "1",
    }
    first, second = (f"ws://127.0.0.1:{each}/connection/websocket" for each in (port, port + 1))
    with command("serve", cwd=tmp_path, env=env) as node:
        addresses(node)
        with connect(first), pytest.raises(InvalidStatus) as refused, connect(second):
            pass
        assert refused.value.response.status_code == 429
        with connect(f"ws://[::1]:{port + 1}/connection/websocket"):
            pass
    with command("serve", cwd=tmp_path, env={**env, "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32"}) as node:
        addresses(node)
        with (
            connect(first, additional_headers={"X-Forwarded-For": "192.0.2.7"}),
            pytest.raises(InvalidStatus) as refused,
            connect(second, additional_headers={"X-Forwarded-For": "192.0.2.7"}),
        ):
            pass
        assert refused.value.response.status_code == 429


@pytest.mark.slow
def test_workers_share_all_addresses(tmp_path: Path) -> None:
    """And each has the internal ones to itself, on the ports that follow."""
    port, internal = free_port(1), free_port(1)
    with valkey_server() as valkey:
        arguments = ("serve", "--workers", "2", "--redis-url", valkey.unix_url, "--no-auth", "--allow-open-network")
        env = {
            **QUICK,
            "GATEWAY_LISTEN": f"*:{port},127.0.0.1:{port + 1}",
            "GATEWAY_INTERNAL_LISTEN": f"127.0.0.1:{internal},[::1]:{internal}",
        }
        with command(*arguments, cwd=tmp_path, env=env) as supervisor:
            supervisor.expect("2 workers serve")
            for url in (f"127.0.0.1:{port}", f"[::1]:{port}", f"127.0.0.1:{port + 1}"):
                assert get(f"http://{url}", "/health/ready")[0] == 200
            for each in (internal, internal + 1):
                assert get(f"http://127.0.0.1:{each}", "/metrics")[0] == 200
                assert get(f"http://[::1]:{each}", "/metrics")[0] == 200
            assert supervisor.end() == 0


def test_a_cluster_is_reached_on_both_families(tmp_path: Path) -> None:
    """With *; its URLs are of this machine."""
    arguments = ("cluster", "--nodes", "1", "--listen", "*:0", "--demo", "--allow-open-network")
    with command(*arguments, cwd=tmp_path) as cluster:
        (node,) = cluster.ready()["nodes"]
        assert node["url"].startswith("http://127.0.0.1:")
        assert get(node["url"], "/health/ready")[0] == 200
        assert get(node["url"].replace("127.0.0.1", "[::1]"), "/health/ready")[0] == 200


def test_a_cluster_has_one_address(run: Run) -> None:
    """Its nodes have the ports that follow."""
    result = run("cluster", "--listen", "127.0.0.1:8000", "--listen", "[::1]:8000")
    assert result.exit_code == 1
    assert "the nodes of a cluster share one address; give one with --listen" in result.stderr


def test_commands_take_the_first_address(run: Run) -> None:
    """As this machine reaches it."""
    for listen, url in (
        ("*:81,127.0.0.1:82", "ws://127.0.0.1:81/ws/news"),
        ("[::]:81", "ws://[::1]:81/ws/news"),
    ):
        assert run("url", "news", "--listen", listen).stdout == f"{url}\n"
