"""What the gateway answers to rows of an outbox: a real node."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from msgspec import Raw

from gateway.api.request_shapes import PublishRequest
from gateway.client import AsyncClient, ClientError, Unauthorized
from gateway.outbox.http_sender import HttpSender
from gateway.outbox.relay import Refusal
from tests.api.clients import settled
from tests.api.site import KEY, OPEN, Site, running, settings_of
from tests.client.way import answer, way_to


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    settings = settings_of(namespaces={"chat": OPEN}, api={"keys": [KEY], "max_body": 100_000})
    with running(settings) as node:
        yield node


def send(url: str, requests: Sequence[PublishRequest], key: str = KEY) -> Sequence[Refusal | None]:
    async def main() -> Sequence[Refusal | None]:
        sender = HttpSender(AsyncClient(url, key))
        try:
            return await sender.send(requests)
        finally:
            await sender.aclose()

    return asyncio.run(main())


def request(channel: str, data: bytes) -> PublishRequest:
    return PublishRequest(channel=channel, data=Raw(data), idempotency_key=f"{channel} {data[:9]!r}")


def test_each_row_has_its_outcome(site: Site) -> None:
    with settled(site, "chat:a") as client:
        outcomes = send(
            f"http://{site.public}",
            [request("nowhere:a", b"1"), request("chat:a", b'"%s"' % (b"x" * 70_000)), request("chat:a", b"3")],
        )
        assert client.recv(60) == "3"
    assert [each and (each.text[:3], each.temporary) for each in outcomes] == [("102", False), ("107", False), None]


def test_one_that_is_too_large_for_any_request_stops_no_other(site: Site) -> None:
    """The request with all of them is refused as a whole."""
    with settled(site, "chat:b") as client:
        outcomes = send(
            f"http://{site.public}", [request("chat:a", b'"%s"' % (b"x" * 200_000)), request("chat:b", b"2")]
        )
        assert client.recv(60) == "2"
    assert outcomes[0] is not None
    assert not outcomes[0].temporary
    assert outcomes[1] is None


def test_what_may_pass_is_told_apart(site: Site) -> None:
    body = '{"replies":[{"error":{"code":100,"message":"later"}},{"publish":{}}]}'
    with way_to(site.public) as way:
        way.plan.append(answer(200, body))
        assert send(way.url, [request("chat:a", b"1"), request("chat:b", b"2")]) == [Refusal("100 later", True), None]


def test_what_is_wrong_with_the_way_is_no_fault_of_the_rows(site: Site) -> None:
    """A wrong key, or a wrong URL."""
    with pytest.raises(Unauthorized):
        send(f"http://{site.public}", [request("chat:a", b"1")], key="another key")
    with pytest.raises(ClientError, match="nothing at this path"):
        send(f"http://{site.public}/elsewhere", [request("chat:a", b"1")])
