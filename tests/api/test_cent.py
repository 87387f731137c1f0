"""The unmodified PyPI client `cent`, every method that it has."""

import asyncio
import time
from base64 import b64encode
from typing import Any

import cent
import pytest
import requests
from cent import dto

from gateway.tokens import connection_token
from tests.api.clients import native, settled
from tests.api.conftest import Api
from tests.api.site import KEY, SECRET, Site

# Methods of its vendor's commercial server take any shapes here: none of them is served.
FOREIGN = sorted(
    request.__api_method__
    for name, request in vars(dto).items()
    if name.endswith("Request") and isinstance(getattr(request, "__api_method__", None), str)
)


def test_publish(site: Site, client: cent.Client) -> None:
    """JSON with all options, and bytes."""
    with native(site) as one, settled(site, "news") as other:
        one.subscribe("news")
        for _ in range(2):
            request = cent.PublishRequest(
                channel="news", data={"a": 1}, skip_history=True, tags={"t": "1"}, idempotency_key="k"
            )
            result = client.publish(request)
            assert (result.offset, result.epoch) == (0, "")
        client.publish(cent.PublishRequest(channel="news", data=None, b64data=b64encode(b"\xff").decode()))
        assert one.publication() == {"data": {"a": 1}, "tags": {"t": "1"}}
        assert one.publication() == {"data": {"base64": "/w=="}}
        assert [other.recv(10) for _ in range(2)] == ['{"a": 1}', b"\xff"]


def test_broadcast(site: Site, client: cent.Client) -> None:
    """A response for each channel, errors among them."""
    with settled(site, "a") as one, settled(site, "b") as other:
        result = client.broadcast(cent.BroadcastRequest(channels=["a", "nowhere:c", "b"], data=1))
        assert [response.error.code if response.error else 0 for response in result.responses] == [0, 102, 0]
        assert result.responses[0].result == cent.PublishResult()
        assert (one.recv(10), other.recv(10)) == ("1", "1")


def test_subscribe_and_unsubscribe(site: Site, client: cent.Client) -> None:
    """With info and data."""
    with native(site, "ada") as ada:
        subscribe = cent.SubscribeRequest(user="ada", channel="news", info={"i": 1}, data={"d": 1}, client=ada.id)
        assert client.subscribe(subscribe) == cent.SubscribeResult()
        assert ada.push() == {"channel": "news", "subscribe": {"data": {"d": 1}}}
        assert client.unsubscribe(cent.UnsubscribeRequest(user="ada", channel="news")) == cent.UnsubscribeResult()
        assert ada.push()["unsubscribe"]["code"] == 2000


def test_disconnect(site: Site, client: cent.Client) -> None:
    """With a whitelist and a code of its own, and as the library fills it in."""
    with native(site, "ada") as one, native(site, "ada") as other:
        disconnect = cent.Disconnect(code=4001, reason="enough")
        request = cent.DisconnectRequest(user="ada", whitelist=[other.id], disconnect=disconnect)
        assert client.disconnect(request) == cent.DisconnectResult()
        assert one.close_code() == (4001, "enough")
        client.disconnect(cent.DisconnectRequest(user="ada", disconnect=cent.Disconnect()))
        assert other.close_code() == (3503, "force disconnect")


def test_refresh(site: Site, client: cent.Client) -> None:
    """Later, and now."""
    with native(site, "ada") as ada:
        result = client.refresh(cent.RefreshRequest(user="ada", client=ada.id, expire_at=int(time.time()) + 1_000))
        assert result == cent.RefreshResult()
        assert 900 < ada.push()["refresh"]["ttl"] <= 1_000
        client.refresh(cent.RefreshRequest(user="ada", expired=True))
        assert ada.close_code() == (3005, "connection expired")


def test_channels_and_info(site: Site, client: cent.Client) -> None:
    """The shapes that the library checks."""
    with settled(site, "a"), settled(site, "chat:cent"):
        assert client.channels(cent.ChannelsRequest(pattern="chat:*")).channels == {
            "chat:cent": dto.ChannelInfoResult(num_clients=1)
        }
        assert "chat:cent" in client.channels(cent.ChannelsRequest()).channels
    (node,) = client.info(cent.InfoRequest()).nodes
    assert node.uid == site.gateway.administration.profile.uid
    assert node.process is not None
    assert node.process.rss > 0


def test_batch(site: Site, client: cent.Client) -> None:
    """Mixed; the library gives each reply the type of its request."""
    with settled(site, "news") as one:
        commands = [
            cent.PublishRequest(channel="news", data=1),
            cent.BroadcastRequest(channels=["news", "other"], data=2),
            cent.DisconnectRequest(user="nobody"),
            cent.ChannelsRequest(pattern="news"),
            cent.InfoRequest(),
        ]
        result = client.batch(cent.BatchRequest(requests=commands, parallel=True))
        expected = [cent.PublishResult, cent.BroadcastResult, cent.DisconnectResult, cent.ChannelsResult]
        assert [type(reply) for reply in result.replies] == [*expected, cent.InfoResult]
        assert [one.recv(10) for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize(
    "request_",
    [
        cent.PresenceRequest(channel="news"),
        cent.PresenceStatsRequest(channel="news"),
        cent.HistoryRequest(channel="news", limit=1, since=cent.StreamPosition(offset=1, epoch="a"), reverse=True),
        cent.HistoryRemoveRequest(channel="news"),
    ],
    ids=lambda request: request.api_method,
)
def test_methods_to_come_are_not_available(client: cent.Client, request_: Any) -> None:
    """Error 108, as from a server on which they are switched off."""
    with pytest.raises(cent.CentApiResponseError) as caught:
        getattr(client, request_.api_method)(request_)
    assert caught.value.code == 108


def test_every_method_of_the_library_has_an_answer(api: Api) -> None:
    """Served, not available yet, or not found: no method ends in another way."""
    served = {path.removeprefix("/api/") for path in api.document["paths"]}
    assert {"publish", "batch", "info"} < served & set(FOREIGN)
    for name in FOREIGN:
        answer = api.post(name, {})
        if name in served:
            assert "result" in answer or answer["error"]["code"] == 107
        else:
            assert answer["error"]["code"] in (104, 108)


def test_errors_are_its_exceptions(site: Site, client: cent.Client) -> None:
    """Of the API and of the transport."""
    with pytest.raises(cent.CentApiResponseError, match="nowhere") as caught:
        client.publish(cent.PublishRequest(channel="nowhere:room", data=1))
    assert caught.value.code == 102
    with requests.Session() as session:
        session.trust_env = False
        stranger = cent.Client(f"http://{site.public}/api", "wrong", session=session)
        with pytest.raises(cent.CentUnauthorizedError):
            stranger.info(cent.InfoRequest())


def test_the_asynchronous_client(site: Site) -> None:
    """The same over aiohttp."""

    async def run() -> None:
        async with cent.AsyncClient(f"http://{site.public}/api", KEY) as client:
            await client.publish(cent.PublishRequest(channel="news", data={"a": 1}))
            commands = [cent.PublishRequest(channel="news", data=2), cent.InfoRequest()]
            result = await client.batch(cent.BatchRequest(requests=commands))
            assert [type(reply) for reply in result.replies] == [cent.PublishResult, cent.InfoResult]

    with settled(site, "news", f"?token={connection_token(SECRET, 'ada')}") as one:
        asyncio.run(run())
        assert [one.recv(10) for _ in range(2)] == ['{"a": 1}', "2"]
