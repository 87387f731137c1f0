"""The routes of the demo page. The page itself is tested in a browser, in tests/cluster/."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.api.clients import native, settled
from tests.api.conftest import Api
from tests.api.site import Site, running, settings_of
from tests.servers import valkey_server


def get(site: Site, path: str) -> httpx.Response:
    return httpx.get(f"http://{site.public}{path}", trust_env=False)


@pytest.fixture(scope="module")
def demo() -> Iterator[Site]:
    """As `--demo` starts it: no key, no secret, no open channels of its own."""
    settings = settings_of(
        demo=True, auth={}, api={}, channels={}, namespaces={}, node_name="one", node_url="http://127.0.0.1:8001"
    )
    with running(settings) as site:
        yield site


def test_the_page_is_there_with_the_demo_only(demo: Site) -> None:
    """On the public listener."""
    assert get(demo, "/").status_code == 200
    assert httpx.get(f"http://{demo.internal}/", trust_env=False).status_code == 404
    with running(settings_of()) as site:
        assert "html" not in get(site, "/").headers["content-type"]
        assert get(site, "/demo/nodes").status_code == 404


@pytest.mark.parametrize("path", ["/", "/demo/protocols"])
def test_the_page_allows_itself_nothing_but_itself(demo: Site, path: str) -> None:
    """HTML in UTF-8 under a policy without any other origin; it holds all that it needs."""
    response = get(demo, path)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";") if part.strip()
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self' ws: wss: http: https:"
    assert not re.search(r"https?://", response.headers["content-security-policy"])
    assert not re.search(r"""(src|href)=["'](?!data:|/["']|/demo/)""", response.text)


def test_the_page_learns_where_the_nodes_are(demo: Site) -> None:
    """Name and URL of each, and nothing else; they cannot be killed."""
    response = get(demo, "/demo/nodes")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"nodes": [{"name": "one", "url": "http://127.0.0.1:8001"}], "kill": False}
    assert httpx.post(f"http://{demo.public}/demo/kill", trust_env=False).status_code == 404


def test_only_get_is_served(demo: Site) -> None:
    """There is nothing to send."""
    for path in ("/", "/demo/nodes"):
        assert httpx.post(f"http://{demo.public}{path}", trust_env=False).status_code == 405


def test_visitors_chat_in_the_demo_namespace_only(demo: Site) -> None:
    """Without a token; every other channel stays as it is configured."""
    with native(demo) as one, settled(demo, "demo:chat") as other:
        one.subscribe("demo:chat")
        assert one.push()["join"]
        other.send("hi")
        assert one.publication()["data"] == "hi"
        assert one.command(subscribe={"channel": "news"})["error"]["code"] == 103
        assert one.command(publish={"channel": "news", "data": 1})["error"]["code"] == 103
    with Api(demo) as api, settled(demo, "demo:chat") as other:
        assert api.call("publish", channel="demo:chat", data=1)["offset"] > 0
        assert other.recv(10) == "1"


def test_joins_and_leaves_of_visitors_are_announced(demo: Site) -> None:
    """With the demo, so that the page need not wait until it asks for members."""
    with native(demo) as one:
        one.subscribe("demo:chat")
        assert one.push()["join"]["info"]["client"] == one.id
        with native(demo) as other:
            other.subscribe("demo:chat")
            assert one.push()["join"]["info"]["client"] == other.id
        assert one.push()["leave"]["info"]["client"] == other.id


def test_without_redis_the_nodes_are_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """503 and none, as the page expects, without a traceback; the page itself is still there."""
    with valkey_server() as server, running(settings_of(demo=True, redis={"url": server.unix_url})) as site:
        assert len(get(site, "/demo/nodes").json()["nodes"]) == 1
        server.kill()
        response = get(site, "/demo/nodes")
        assert (response.status_code, response.json()) == (503, {"nodes": [], "kill": False})
        assert get(site, "/").status_code == 200
        server.start()
    assert not [record for record in caplog.records if record.exc_info]
