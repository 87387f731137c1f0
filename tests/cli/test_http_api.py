"""`gateway publish`, `revoke` and `nodes`, against a double of the HTTP API on a real socket."""

import http.server
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.conftest import Run

KEY = "an API key of enough bytes: 32 or more"


class Request(NamedTuple):
    path: str
    key: str | None
    errors: str | None
    body: Any


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Double"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key, errors = self.headers["X-API-Key"], self.headers["X-Centrifugo-Error-Mode"]
        self.server.requests.append(Request(self.path, key, errors, body))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the output of the tests clean."""


class Double(http.server.HTTPServer):
    """Answers every request in the same way and remembers them."""

    address_family: int
    answer: tuple[int, bytes] = (200, b'{"result":{}}')

    def __init__(self, address: Any, family: int = socket.AF_INET) -> None:
        self.address_family = family
        self.requests: list[Request] = []
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Without the look-up of the host's name, which a Unix socket has not."""
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def serving(double: Double) -> Iterator[Double]:
    thread = threading.Thread(target=double.serve_forever, args=(0.01,))
    thread.start()
    yield double
    double.shutdown()
    thread.join()
    double.server_close()


@pytest.fixture
def api() -> Iterator[Double]:
    yield from serving(Double(("127.0.0.1", 0)))


# What goes wrong


@pytest.mark.parametrize(
    ("status", "answer", "text"),
    [
        (401, b"", "refused the API key: give --api-key, or set api.keys in the settings"),
        (404, b'{"code":102,"message":"unknown channel"}', "refused: 102 unknown channel"),
        (413, b'{"error":{"code":413,"message":"body too big"}}', "refused: 413 body too big"),
        (400, b'{"code":107,"message":"bad\\n\\u001b[31m"}', r"refused: 107 bad\n\x1b[31m"),
        (400, b'{"code":[]}', "refused: [] None"),
        (200, b'{"error":{}}', "refused: None None"),
        (404, b"Not Found", "answered 404 to /api: it is not a gateway, or api.public is off"),
        (502, b"<html>", "answered 502 to /api"),
        (200, b"[]", "answered 200 to /api"),
        (200, b'{"result":5}', "answered 200 to /api"),
        (500, b'{"result":{}}', "answered 500 to /api"),
        (200, b"[" * 100_000, "answered 200 to /api"),
        (302, b"", "answered 302 to /api"),
    ],
)
def test_a_refusal_is_one_clear_line(run: Run, api: Double, status: int, answer: bytes, text: str) -> None:
    """Whatever the other side answers, without control characters and without a traceback."""
    api.answer = (status, answer)
    for args in (("publish", "news", "1"), ("revoke", "--user", "42"), ("nodes",)):
        result = run(*args, "--url", api.url, "--api-key", KEY)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_without_a_key_the_gateway_says_that_it_wants_one(run: Run, api: Double) -> None:
    """None is sent then."""
    api.answer = (401, b"")
    result = run("nodes", "--url", api.url)
    assert "requires an API key" in result.stderr
    assert api.requests[0].key is None


def test_a_gateway_that_is_not_there_is_said(run: Run) -> None:
    """With its address, and how to name another one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        result = run("publish", "news", "1", GATEWAY_LISTEN=address)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: cannot reach http://{address}: ")
    assert "--url or GATEWAY_URL" in result.stderr
    # In a process of its own: httpcore leaves the socket that failed to the garbage collector, which warns.
    command = [sys.executable, "-m", "gateway", "nodes", "--url", "unix:/nonexistent/a.sock", "--api-key", KEY]
    missing = subprocess.run(command, capture_output=True, text=True)
    assert missing.returncode == 1
    assert missing.stderr.startswith("Error: cannot reach unix:/nonexistent/a.sock: ")


def test_a_connection_that_breaks_or_says_nothing_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second case nobody knows whether the publish took effect."""
    monkeypatch.setattr("gateway.cli.http_api.TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        silent = run("publish", "news", "1", "--url", url)

        def close_both() -> None:
            for _ in range(2):
                server.accept()[0].close()

        closing = threading.Thread(target=close_both)
        closing.start()
        broken = run("publish", "news", "1", "--url", url)
        closing.join()
    assert "did not answer within 0.05 s; the request may have been carried out or not" in silent.stderr
    assert (silent.exit_code, broken.exit_code) == (1, 1)
    assert broken.stderr.startswith(f"Error: {url}: ")


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX: b"])
def test_a_key_that_is_no_header_is_refused(run: Run, api: Double, key: str) -> None:
    """And sends nothing."""
    result = run("nodes", "--url", api.url, "--api-key", key)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert api.requests == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("publish", "news", "{"), "not JSON"),
        (("publish", "news", "[" * 100_000), "not JSON"),
        (("publish", "news", "hello"), "--text publishes it as it is"),
        (("publish", "news"), "Missing argument 'DATA'"),
        (("revoke",), "one of --user and --jti"),
        (("revoke", "--user", ""), "one of --user and --jti"),
        (("revoke", "--user", "1", "--jti", "2"), "one of --user and --jti"),
    ],
)
def test_a_wrong_command_line_reaches_nobody(run: Run, api: Double, args: tuple[str, ...], text: str) -> None:
    """It ends with 2."""
    result = run(*args, "--url", api.url, "--api-key", KEY)
    assert result.exit_code == 2
    assert text in result.stderr
    assert api.requests == []


# What is sent


def test_publish_sends_json_or_text(run: Run, api: Double) -> None:
    """From the command line or from standard input; errors come as HTTP statuses."""
    options = ("--url", api.url, "--api-key", KEY)
    assert run("publish", "news", '{"a": [1, null]}', *options).stdout == "published\n"
    run("publish", "news", "5", "--text", *options)
    run("publish", "news", "-", *options, input='"in"')
    run("publish", "news", "-", "--text", "--idempotency-key", "k", *options, input="{\n")
    assert api.requests[0] == Request("/api/publish", KEY, "transport", {"channel": "news", "data": {"a": [1, None]}})
    assert [request.body["data"] for request in api.requests[1:]] == ["5", "in", "{\n"]
    assert [request.body.get("idempotency_key") for request in api.requests] == [None, None, None, "k"]


def test_publish_tells_the_position_where_there_is_one(run: Run, api: Double) -> None:
    """On channels with history."""
    api.answer = (200, b'{"result":{"offset":7,"epoch":"x\\n"}}')
    assert run("publish", "news", "1", "--url", api.url).stdout == "published at offset 7, epoch x\\n\n"


def test_revoke_names_a_user_or_a_token(run: Run, api: Double) -> None:
    """And says what it did."""
    api.answer = (200, b'{"result":{"num_clients":7}}')
    told = run("revoke", "--user", "42", "--url", api.url).stdout
    assert told == "revoked the tokens of user 42, 7 connections closed\n"
    assert run("revoke", "--jti", "t1", "--url", api.url).stdout == "revoked the token t1, 7 connections closed\n"
    run("revoke", "--jti", "t2", "--expire-at", "1800000000", "--url", api.url)
    assert [(request.path, request.body) for request in api.requests] == [
        ("/api/revoke", {"user": "42"}),
        ("/api/revoke", {"jti": "t1"}),
        ("/api/revoke", {"jti": "t2", "expire_at": 1800000000}),
    ]


def test_kick_names_a_user_and_a_channel(run: Run, api: Double) -> None:
    """And says what it did."""
    api.answer = (200, b'{"result":{"num_clients":2,"issued_before":1700000000}}')
    told = run("kick", "42", "$chat:room", "--url", api.url).stdout
    assert told == "kicked user 42 from $chat:room, 2 subscriptions ended\n"
    run("kick", "42", "room", "--expire-at", "1800000000", "--url", api.url)
    assert [(request.path, request.body) for request in api.requests] == [
        ("/api/kick", {"user": "42", "channel": "$chat:room"}),
        ("/api/kick", {"user": "42", "channel": "room", "expire_at": 1800000000}),
    ]


def test_drain_names_a_node(run: Run, api: Double) -> None:
    """And says how many it sends away."""
    api.answer = (200, b'{"result":{"num_clients":7}}')
    assert run("drain", "gw-1", "--url", api.url).stdout == "node gw-1 drains: 7 connections\n"
    assert [(request.path, request.body) for request in api.requests] == [("/api/drain", {"node": "gw-1"})]


def reloaded(name: str, error: str = "", changed: tuple[str, ...] = (), waiting: tuple[str, ...] = ()) -> Any:
    return {"name": name, "uid": "u", "error": error, "changed": changed, "needs_restart": waiting}


def test_reload_says_what_became_of_it(run: Run, api: Double) -> None:
    """On each node: what is new, what needs a restart, and why nothing is; the last ends the command with 1."""
    nodes = [
        reloaded("one", changed=("auth.hmac_secret", "namespaces.x\x1b[31m"), waiting=("listen",)),
        reloaded("two", error="2 problems:\n  a\x1b[31m\n  b"),
        reloaded("three"),
    ]
    api.answer = (200, json.dumps({"result": {"nodes": nodes}}).encode())
    result = run("reload", "--url", api.url)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "node one: changed auth.hmac_secret, namespaces.x\\x1b[31m; needs a restart for listen",
        "node three: nothing has changed",
    ]
    assert result.stderr.splitlines() == ["node two: nothing was changed: 2 problems:", "  a\\x1b[31m", "  b"]
    api.answer = (200, json.dumps({"result": {"nodes": nodes[2:]}}).encode())
    assert run("reload", "three", "--url", api.url).exit_code == 0
    assert [(request.path, request.body) for request in api.requests] == [
        ("/api/reload", {}),
        ("/api/reload", {"node": "three"}),
    ]
    for wrong in (b'{"result":{}}', b'{"result":{"nodes":[]}}', b'{"result":{"nodes":[1]}}'):
        api.answer = (200, wrong)
        result = run("reload", "--url", api.url)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "did not answer with a list of nodes" in result.stderr


def test_nodes_are_a_table(run: Run, api: Double) -> None:
    """One line per node, numbers to the right; what a node calls itself cannot drive the terminal."""
    node = {
        "uid": "u",
        "name": "gw-1",
        "version": "0.1.0",
        "num_clients": 12000,
        "num_users": 3,
        "num_subs": 4,
        "num_channels": 5,
        "draining": True,
        "bus": 2,
        "settings": "0123abcd",
        "differs": ["auth", "bus", "name\x1bspaces"],
        "uptime": 90_061,
        "process": {"cpu": 1.5, "rss": 64 * 2**20},
    }
    answer = {"result": {"nodes": [node, {"name": "gw\x1b[31m", "uptime": 61}]}}
    api.answer = (200, json.dumps(answer).encode())
    result = run("nodes", "--url", api.url)
    remarks = ["draining;", "settings", "differ:", "auth,", "name\\x1bspaces;", "bus", "version", "differs:", "2"]
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["NAME", "VERSION", "UPTIME", "CLIENTS", "USERS", "SUBS", "CHANNELS", "CPU", "MEMORY", "SETTINGS"],
        ["gw-1", "0.1.0", "1d", "01:01:01", "12000", "3", "4", "5", "1.5", "s", "64", "MiB", "0123abcd", *remarks],
        ["gw\\x1b[31m", "00:01:01", "0", "0", "0", "0", "0", "s", "0", "MiB"],
    ]
    assert json.loads(run("nodes", "--json", "--url", api.url).stdout) == answer["result"]
    for wrong in (b'{"result":{}}', b'{"result":{"nodes":[1]}}'):
        api.answer = (200, wrong)
        assert "did not answer with a list of nodes" in run("nodes", "--url", api.url).stderr


# Where it is sent


def test_url_and_key_come_from_the_settings(run: Run, api: Double) -> None:
    """The first key, and the listener that has the API; a wildcard is reached over loopback."""
    port = api.server_address[1]
    first = KEY[::-1]
    Path("gateway.toml").write_text(f'listen = "0.0.0.0:{port}"\napi.keys = ["{KEY}", "{first}"]')
    assert run("nodes", GATEWAY_API__KEYS=first).exit_code == 1
    run("nodes")
    run("nodes", "--api-key", "given")
    internal = {"GATEWAY_LISTEN": "127.0.0.1:1", "GATEWAY_INTERNAL_LISTEN": f"127.0.0.1:{port}"}
    run("nodes", GATEWAY_API__PUBLIC="false", **internal)
    run("nodes", GATEWAY_URL=f"http://localhost:{port}/", GATEWAY_LISTEN="127.0.0.1:1")
    assert [request.key for request in api.requests] == [first, KEY, "given", KEY, KEY]


def test_an_api_that_is_nowhere_is_said(run: Run) -> None:
    """Switched off on both listeners."""
    result = run("nodes", GATEWAY_API__PUBLIC="false", GATEWAY_INTERNAL_LISTEN="")
    assert result.exit_code == 1
    assert "there is no API" in result.stderr


def test_broken_settings_do_not_matter_where_none_are_needed(run: Run, api: Double) -> None:
    """Such as on another machine."""
    Path("gateway.toml").write_text("nonsense")
    assert run("revoke", "--user", "1", "--url", api.url, "--api-key", KEY).exit_code == 0
    assert run("revoke", "--user", "1", "--url", api.url).exit_code == 1


def test_a_gateway_behind_a_unix_socket_is_reached(run: Run, tmp_path: Path) -> None:
    """Named by the settings or by --url."""
    path = os.path.relpath(tmp_path / "gateway.sock")
    for double in serving(Double(path, socket.AF_UNIX)):
        absolute = f"unix:{tmp_path / 'gateway.sock'}"
        assert run("revoke", "--user", "1", GATEWAY_LISTEN=absolute).exit_code == 0
        assert run("revoke", "--user", "1", "--url", absolute).exit_code == 0
        assert len(double.requests) == 2


def test_loopback_is_reached_without_a_proxy(run: Run, api: Double) -> None:
    """HTTP_PROXY is for the world outside."""
    assert run("revoke", "--user", "1", "--url", api.url, HTTP_PROXY="http://127.0.0.1:1").exit_code == 0


@pytest.mark.parametrize("proxy", ["ftp://ada:hush@proxy.invalid", "http://[::1", "http://proxy.invalid:99999", "hush"])
@pytest.mark.parametrize("command", ["nodes", "subscribe"])
def test_a_proxy_that_is_none_is_said(run: Run, command: str, proxy: str) -> None:
    """It comes from the environment; without the login in it."""
    channels = ("news",) if command == "subscribe" else ()
    result = run(command, *channels, "--url", "http://gateway.invalid", HTTP_PROXY=proxy, http_proxy=proxy)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "ada:hush" not in result.stderr
