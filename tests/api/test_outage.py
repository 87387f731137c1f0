"""The API when Redis is away: every method says so, clearly and soon, and works again by itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.clients import settled
from tests.api.conftest import TRANSPORT, Api
from tests.api.site import Site, running, settings_of
from tests.api.test_cluster_methods import eventually
from tests.servers import ValkeyServer

REQUESTS: dict[str, dict[str, Any]] = {
    "publish": {"channel": "news", "data": 1},
    "subscribe": {"user": "ada", "channel": "news"},
    "unsubscribe": {"user": "ada"},
    "disconnect": {"user": "ada"},
    "refresh": {"user": "ada"},
    "revoke": {"user": "ada"},
    "kick": {"user": "ada", "channel": "news"},
    "channels": {},
    "info": {},
}


@pytest.fixture(scope="module")
def site(server: ValkeyServer) -> Iterator[Site]:
    with running(settings_of(redis={"url": server.unix_url, "publish_timeout": 0.3})) as node:
        yield node


def is_ready(site: Site) -> bool:
    return bool(site.call(site.gateway.node.health).ok)


def test_nothing_is_acknowledged_that_redis_did_not_take(site: Site, api: Api, server: ValkeyServer) -> None:
    """Error 100, a 500 in the error mode, with the reason; each part of a batch or broadcast for itself."""
    server.kill()
    try:
        eventually(lambda: is_ready(site), False)
        for method, body in REQUESTS.items():
            code, message = api.error(method, **body)
            assert code == 100, method
            assert message.startswith("internal server error: "), method
        assert api.http.post("/api/publish", json=REQUESTS["publish"], headers=TRANSPORT).status_code == 500
        responses = api.call("broadcast", channels=["a", "nowhere:b"], data=1)["responses"]
        assert [response["error"]["code"] for response in responses] == [100, 102]
        replies = api.post("batch", {"commands": [{name: body} for name, body in REQUESTS.items()]})["replies"]
        assert [reply["error"]["code"] for reply in replies] == [100] * len(REQUESTS)
    finally:
        server.start()
    eventually(lambda: is_ready(site), True)
    with settled(site, "news") as client:
        for method, body in REQUESTS.items():
            api.call(method, **body)
        assert client.recv(10) == "1"


def test_an_unknown_outcome_is_said_to_be_unknown(site: Site, api: Api, server: ValkeyServer) -> None:
    """A server that stands still may or may not have taken it: the backend waits for the time limit, not for ever."""
    server.freeze()
    try:
        code, message = api.error("publish", channel="news", data=1)
        assert code == 100
        assert "may or may not" in message
    finally:
        server.thaw()
    eventually(lambda: is_ready(site), True)
    assert api.call("publish", channel="news", data=1) == {}
