"""Clients over HTTP in a real browser, on pages of other origins."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from gateway.tokens import connection_token
from tests.api.site import KEY, SECRET, running, settings_of
from tests.cluster.test_demo import played
from tests.clusters import running_cluster
from tests.servers import free_port

pytestmark = pytest.mark.slow


@contextmanager
def website(port: int, posted: Callable[[str], None]) -> Iterator[None]:
    """A server of empty pages, whose backend is told the targets of POST requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            posted(self.path)
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_event_source_of_another_origin() -> None:
    """It resumes by itself, without losing or doubling anything. A page that is not allowed gets nothing."""
    port = free_port()
    page, stranger = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    settings = settings_of(
        origins={"allowed": [page]}, namespaces={"kept": {"delivery": "recoverable", "allow_subscribe": ["client"]}}
    )
    with running(settings) as site, httpx.Client(headers={"X-API-Key": KEY}, trust_env=False) as http:

        def posted(target: str) -> None:
            method, _, data = target.removeprefix("/").partition("?")
            body: dict[str, object] = {"channel": "kept:a", "data": data}
            if method == "disconnect":
                body = {"user": "ann", "disconnect": {"code": 4000, "reason": "come back"}}
            answer = http.post(f"http://{site.public}/api/{method}", json=body)
            assert "result" in answer.json(), answer.text

        with website(port, posted):
            stream = f"http://{site.public}/sse/kept:a?token={connection_token(SECRET, 'ann')}"
            shown = played("eventsource.mjs", page, stranger, stream)
    assert shown == {"seen": ["first", 4000, "missed", "last"], "closed": True}


def test_sdk_of_another_origin_without_a_websocket() -> None:
    """It connects to one node, and sends to another one. A page that is not allowed does neither."""
    port = free_port()
    page, stranger = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    env = {
        "GATEWAY_ORIGINS__ALLOWED": json.dumps([page]),
        "GATEWAY_NAMESPACES__open__ALLOW_SUBSCRIBE": "client",
        "GATEWAY_NAMESPACES__open__ALLOW_PUBLISH": "client",
    }
    with website(port, lambda target: None), running_cluster(nodes=2, env=env) as cluster:
        first, second = cluster.nodes
        token = connection_token(cluster.hmac_secret, "ann")
        shown = played("emulation.mjs", page, stranger, first.url, f"{second.url}/emulation", token)
    told = ["first", {"second": True}]
    assert shown == {"lines": told, "events": told, "refused": "transport closed"}


def test_a_page_of_another_origin_reads_that_its_body_is_too_large() -> None:
    """Above `api.max_body`, where the HTTP class answers while the browser still sends."""
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    with running(settings_of(origins={"allowed": [page]})) as site, website(port, lambda target: None):
        urls = [f"http://{site.public}{path}" for path in ("/emulation", "/connection/http_stream", "/connection/sse")]
        statuses = played("refused_bodies.mjs", page, "1", str(5 * 2**20), *urls)
    assert statuses == [413, 413, 413]
