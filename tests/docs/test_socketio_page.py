"""The page of the quick start in docs/socketio.md, with the client from npm in a real browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster.sdk import SDK_FOLDER
from tests.cluster.test_demo import played
from tests.clusters import running_cluster
from tests.docs.pages import files

pytestmark = pytest.mark.slow

SCRIPT = "socket.io.min.js"


class Handler(SimpleHTTPRequestHandler):
    """Writes no log."""

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """The port of a web server with the files of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_two_windows_chat(tmp_path: Path) -> None:
    """On three nodes, which share a port; each window shows what both wrote, and markup stays text."""
    (tmp_path / SCRIPT).write_bytes((SDK_FOLDER / "node_modules/socket.io-client/dist" / SCRIPT).read_bytes())
    with served(tmp_path) as port:
        page = f"http://127.0.0.1:{port}"
        with running_cluster("--demo", env={"GATEWAY_ORIGINS__ALLOWED": page}) as cluster:
            text = files("socketio")["index.html"]
            assert "http://127.0.0.1:8000" in text
            (tmp_path / "index.html").write_text(text.replace("http://127.0.0.1:8000", cluster.url))
            shown = played("socketio_page.mjs", f"{page}/")
    talk = ["<b>line 0</b>", "<b>line 1</b>"]
    assert shown == {"first": talk, "second": talk, "problems": []}
