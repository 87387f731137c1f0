"""Server-sent events on a whole node, detached and under a standard uvicorn."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import httpx
import pytest

from gateway.tokens import connection_token, subscription_token
from tests.api.site import SECRET, settings_of
from tests.entrances import ways
from tests.entrances.conftest import Make
from tests.protocols.event_source import EventSource

PAGE = "https://page.example"
SETTINGS: dict[str, Any] = {
    "namespaces": {"kept": {"delivery": "recoverable", "allow_subscribe": ["anonymous", "client"]}, "closed": {}},
    "origins": {"allowed": [PAGE]},
    "heartbeat": {"ping_interval": 1, "pong_timeout": 0.5},
}


def publish(http: httpx.Client, channel: str, *values: object) -> str:
    """The epoch of the channel after the last of them."""
    epoch = ""
    for value in values:
        answer = http.post("/api/publish", json={"channel": channel, "data": value}).json()
        epoch = answer["result"].get("epoch", "")
    return epoch


@contextmanager
def events(
    http: httpx.Client, path: str, source: EventSource | None = None, **headers: str
) -> Iterator[Iterator[tuple[str, Any]]]:
    """Name and value of the events of a response."""
    with http.stream("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        found = (source or EventSource()).read(line + "\n" for line in answer.iter_lines())
        yield ((name, json.loads(data)) for name, data in found)


def test_a_stream_is_resumed_after_any_event(http: httpx.Client) -> None:
    """Nothing is missing or doubled, wherever the connection breaks, and what was published meanwhile comes first."""
    source = EventSource()
    epoch = publish(http, "kept:a", 0)
    path = f"/sse/kept:a?since={epoch}:0"
    seen: list[Any] = []
    for breaks_after in (1, 3, 2, 5):
        headers = {"Last-Event-ID": source.last_event_id} if source.last_event_id else {}
        publish(http, "kept:a", *range(max(len(seen), 1), len(seen) + breaks_after))
        with events(http, path, source, **headers) as found:
            seen += [value for _, value in islice(found, breaks_after)]
    assert seen == list(range(11))


def test_a_client_that_saw_nothing_yet_misses_nothing(http: httpx.Client) -> None:
    """It knows where it began."""
    source = EventSource()
    publish(http, "kept:b", "before")
    with events(http, "/sse/kept:b", source) as found:
        publish(http, "kept:b", "first")
        assert next(found) == ("message", "first")
    with http.stream("GET", "/sse/kept:b") as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": subscribed"
        fresh = next(lines).removeprefix("id: ")
    assert fresh == source.last_event_id
    publish(http, "kept:b", "second")
    with events(http, "/sse/kept:b", Last_Event_ID=fresh) as found:
        assert next(found) == ("message", "second")


def test_a_gap_is_told_and_the_stream_goes_on(http: httpx.Client) -> None:
    """An error would make the client come back with the same position for ever."""
    source = EventSource()
    publish(http, "kept:c", 0)
    with events(http, "/sse/kept:c", source, Last_Event_ID="never:1") as found:
        assert next(found) == ("gateway:gap", {})
        epoch = publish(http, "kept:c", 1)
        assert next(found) == ("message", 1)
    assert source.last_event_id == f"{epoch}:2"


@pytest.mark.parametrize(
    ("path", "headers", "code", "reason"),
    [
        ("/sse/closed:a", {}, 3507, "permission denied"),
        ("/sse/news?token=x", {}, 3500, "invalid token"),
        ("/sse/nowhere:a", {}, 3501, "unknown channel"),
        ("/sse/kept:a?since=x", {}, 4500, "since is not EPOCH:OFFSET"),
        ("/sse/kept:a?since=e:1", {"Last-Event-ID": "x"}, 4500, "Last-Event-ID is not EPOCH:OFFSET"),
    ],
)
def test_the_last_event_says_why(
    http: httpx.Client, path: str, headers: dict[str, str], code: int, reason: str
) -> None:
    source = EventSource()
    with events(http, path, source, **headers) as found:
        assert list(found) == [("gateway:disconnect", {"code": code, "reason": reason, "reconnect": False})]
    assert source.retry == 60_000


def test_tokens_as_everywhere(http: httpx.Client) -> None:
    """For the connection or the channel, in the header or the query; who has one is disconnected as any other."""
    grant = subscription_token(SECRET, "ann", "$secret")
    with events(http, f"/sse/$secret?token={grant}") as found:
        publish(http, "$secret", 1)
        assert next(found) == ("message", 1)
    bearer = f"Bearer {connection_token(SECRET, 'ada')}"
    with events(http, "/sse/kept:d", Authorization=bearer) as found:
        publish(http, "kept:d", 1)
        assert next(found) == ("message", 1)
        http.post("/api/disconnect", json={"user": "ada", "disconnect": {"code": 4000, "reason": "as you wish"}})
        assert next(found) == ("gateway:disconnect", {"code": 4000, "reason": "as you wish", "reconnect": True})


def test_silence_does_not_end_it(http: httpx.Client) -> None:
    with http.stream("GET", "/sse/news") as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert list(islice(lines, 4)) == [": subscribed", ":", ":", ":"]


def test_a_node_that_ends_tells_its_clients() -> None:
    """With a code after which an EventSource comes back as usual."""
    source = EventSource()
    with httpx.Client(trust_env=False, timeout=10) as http:
        with ways.detached(settings_of(**SETTINGS)) as address:
            answer = http.send(http.build_request("GET", f"http://{address}/sse/news"), stream=True)
            lines = answer.iter_lines()
            assert next(lines) == ": subscribed"
        found = list(source.read(line + "\n" for line in lines))
    assert found == [("gateway:disconnect", '{"code":3001,"reason":"shutdown","reconnect":true}')]
    assert source.retry is None


# Pages of other origins


def shared(answer: httpx.Response) -> dict[str, str]:
    names = ("vary", "access-control-allow-origin", "access-control-allow-credentials")
    return {name: answer.headers[name] for name in names if name in answer.headers}


ALLOWED = {"vary": "origin", "access-control-allow-origin": PAGE, "access-control-allow-credentials": "true"}


def test_pages_of_allowed_origins_may_read(http: httpx.Client) -> None:
    """With cookies. Others may not even ask; and what is no page is told nothing."""
    with http.stream("GET", "/sse/news", headers={"Origin": PAGE}) as answer:
        assert (answer.status_code, shared(answer)) == (200, ALLOWED)
    refused = http.get("/sse/news", headers={"Origin": "https://evil.example"})
    assert (refused.status_code, shared(refused)) == (403, {"vary": "origin"})
    with http.stream("GET", "/sse/news") as answer:
        assert shared(answer) == {}


def test_any_page_may_read_without_cookies_where_all_origins_are_allowed(make: Make) -> None:
    """With cookies, any page could read what its visitors may read."""
    with (
        make(settings_of(origins={"allowed": ["*"]})) as address,
        httpx.stream("GET", f"http://{address}/sse/news", headers={"Origin": PAGE}, trust_env=False) as answer,
    ):
        assert (answer.status_code, shared(answer)) == (200, {"access-control-allow-origin": "*"})


def test_a_page_of_the_same_origin_sends_no_origin(make: Make) -> None:
    """A browser vouches for it where an origin is required; scripts cannot set this header."""
    settings = settings_of(origins={"allowed": [PAGE], "required": True})
    with make(settings) as address, httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
        with http.stream("GET", "/sse/news", headers={"Sec-Fetch-Site": "same-origin"}) as answer:
            assert answer.status_code == 200
        for site in ("same-site", "cross-site", "none"):
            assert http.get("/sse/news", headers={"Sec-Fetch-Site": site}).status_code == 403
        assert http.get("/sse/news").status_code == 403
        evil = {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}
        assert http.get("/sse/news", headers=evil).status_code == 403


def test_preflights(http: httpx.Client) -> None:
    """A page that reads with `fetch` may send its token and its position in headers."""
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,last-event-id"}
    allowed = http.options("/sse/news", headers={"Origin": PAGE, **asks})
    assert (allowed.status_code, allowed.content, shared(allowed)) == (204, b"", ALLOWED)
    assert allowed.headers["access-control-allow-methods"] == "GET"
    assert allowed.headers["access-control-allow-headers"] == "authorization, last-event-id"
    evil = http.options("/sse/news", headers={"Origin": "https://evil.example", **asks})
    assert (evil.status_code, shared(evil)) == (204, {"vary": "origin"})
    assert not any(name.startswith("access-control") for name in evil.headers)


def test_other_methods_and_the_api_are_shared_with_no_page(http: httpx.Client) -> None:
    """The API is for backends, whatever `origins.allowed` says."""
    posted = http.post("/sse/news", headers={"Origin": PAGE})
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, OPTIONS")
    for method in ("OPTIONS", "POST"):
        answer = http.request(method, "/api/info", headers={"Origin": PAGE}, json={})
        assert not any(name.startswith("access-control") for name in answer.headers)
