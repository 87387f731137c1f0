"""History and presence over the HTTP API, by hand and with the client `cent`."""

import asyncio
import json
from collections.abc import Awaitable, Iterator
from typing import Any, cast

import cent
import httpx
import pytest

from gateway.api import history
from gateway.api.presence import SLICE, Members
from gateway.api.request_shapes import PresenceRequest
from gateway.api.result_shapes import PresenceResult
from gateway.broker.base import MembersDone
from gateway.channels import Channels
from gateway.messages import Channel, ClientInfo
from gateway.node.messaging import Messaging
from tests.api.clients import native, plain
from tests.api.conftest import TRANSPORT, Api
from tests.api.site import KEY, OPEN, Site, running, settings_of

KEPT = {**OPEN, "delivery": "recoverable", "history_size": 2_500, "presence": True}


@pytest.fixture
def site() -> Iterator[Site]:
    with running(settings_of(namespaces={"kept": KEPT, "chat": OPEN})) as node:
        yield node


def offsets(result: dict[str, Any]) -> list[int]:
    return [each["offset"] for each in result["publications"]]


def test_a_publish_tells_its_position(api: Api) -> None:
    """Also in a batch and a broadcast; not where nothing is kept, nor when it is not to be kept."""
    first = api.call("publish", channel="kept:a", data=1)
    assert first["offset"] == 1
    assert api.call("publish", channel="kept:a", data=2, skip_history=True) == {}
    assert api.call("publish", channel="chat:a", data=2) == {}
    responses = api.call("broadcast", channels=["kept:a", "chat:a"], data=3)["responses"]
    assert responses == [{"result": {**first, "offset": 2}}, {"result": {}}]
    again = [api.call("publish", channel="kept:a", data=4, idempotency_key="k") for _ in range(2)]
    assert again == [{**first, "offset": 3}] * 2
    assert api.call("publish", channel="kept:a", data=5, version=7)["offset"] == 4
    assert api.call("publish", channel="kept:a", data=6, version=7)["offset"] == 4
    assert api.call("publish", channel="kept:a", data=7, version=1, version_epoch="b")["offset"] == 5
    assert [each["data"] for each in api.call("history", channel="kept:a", limit=-1)["publications"]] == [1, 3, 4, 5, 7]


def test_history_is_read_in_parts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, however many reads that takes; and what was asked for."""
    monkeypatch.setattr(history, "PART", 100)
    commands = [{"publish": {"channel": "kept:a", "data": number}} for number in range(1, 251)]
    answer = api.post("batch", {"commands": commands})
    epoch = answer["replies"][0]["publish"]["epoch"]
    assert api.call("history", channel="kept:a") == {"publications": [], "epoch": epoch, "offset": 250}
    assert offsets(api.call("history", channel="kept:a", limit=-1)) == list(range(1, 251))
    assert offsets(api.call("history", channel="kept:a", limit=150)) == list(range(1, 151))
    assert offsets(api.call("history", channel="kept:a", limit=130, reverse=True)) == list(range(250, 120, -1))
    since = {"offset": 245, "epoch": epoch}
    assert offsets(api.call("history", channel="kept:a", limit=-1, since=since)) == [246, 247, 248, 249, 250]
    assert offsets(api.call("history", channel="kept:a", limit=-1, since={"offset": 999})) == []
    monkeypatch.setattr(history, "MAX_BYTES", 100)
    code, message = api.error("history", channel="kept:a", limit=-1)
    assert (code, "limit and since" in message) == (107, True)


def test_a_position_of_another_epoch_is_112(site: Site, api: Api) -> None:
    """416 in the error mode `transport`."""
    api.call("publish", channel="kept:a", data=1)
    body = {"channel": "kept:a", "limit": 1, "since": {"offset": 1, "epoch": "other"}}
    assert api.error("history", **body)[0] == 112
    response = httpx.post(
        f"http://{site.public}/api/history",
        content=json.dumps(body),
        headers={"X-API-Key": KEY, **TRANSPORT},
        trust_env=False,
    )
    assert response.status_code == 416


def test_removing_keeps_the_position(api: Api) -> None:
    first = api.call("publish", channel="kept:a", data=1)
    assert api.call("history_remove", channel="kept:a") == {}
    assert api.call("history", channel="kept:a", limit=-1) == {"publications": [], **first}


@pytest.mark.parametrize("method", ["history", "history_remove", "presence", "presence_stats"])
@pytest.mark.parametrize(("channel", "code"), [("chat:a", 108), ("nowhere:a", 102), ("a b", 107)])
def test_what_is_not_kept_is_not_read(api: Api, method: str, channel: str, code: int) -> None:
    assert api.error(method, channel=channel)[0] == code


@pytest.mark.parametrize(
    "body",
    [{"limit": -2}, {"limit": "1"}, {"since": {"offset": -1}}, {"since": {"offset": 2**63}}, {"since": 5}, {"x": 1}],
)
def test_wrong_shapes_are_107(api: Api, body: dict[str, Any]) -> None:
    assert api.error("history", channel="kept:a", **body)[0] == 107


def test_cent_reads_history_and_presence(site: Site, client: cent.Client) -> None:
    """All that it shows of them."""
    with native(site, "ada") as ada, plain(site, "kept:a"):
        ada.subscribe("kept:a")
        ada.command(publish={"channel": "kept:a", "data": {"n": 1}})
        client.publish(cent.PublishRequest(channel="kept:a", data=2, tags={"t": "1"}))
        result = client.history(cent.HistoryRequest(channel="kept:a", limit=10))
        first, second = result.publications
        assert (first.data, first.offset, second.data, second.tags) == ({"n": 1}, 1, 2, {"t": "1"})
        assert first.info is not None
        assert (first.info.user, first.info.client) == ("ada", ada.id)
        since = cent.StreamPosition(offset=1, epoch=result.epoch)
        rest = client.history(cent.HistoryRequest(channel="kept:a", limit=-1, since=since, reverse=False))
        assert [each.data for each in rest.publications] == [2]
        assert client.history_remove(cent.HistoryRemoveRequest(channel="kept:a")) == cent.HistoryRemoveResult()
        members = client.presence(cent.PresenceRequest(channel="kept:a")).presence
        assert members[ada.id].user == "ada"
        stats = client.presence_stats(cent.PresenceStatsRequest(channel="kept:a"))
        assert (stats.num_clients, stats.num_users) == (len(members), 2)


def test_what_clients_publish_is_kept(site: Site, api: Api) -> None:
    """With who it was; bytes and text as they are shown to JSON protocols."""
    with plain(site, "kept:a") as other:
        other.send("text")
        other.send(b"\xff")
        assert [other.recv(10), other.recv(10)] == ["text", b"\xff"]
        found = api.call("history", channel="kept:a", limit=-1)["publications"]
        assert [each["data"] for each in found] == ["text", {"base64": "/w=="}]
        assert all(each["info"]["user"] == "" for each in found)
        assert all(each["time"] > 1_600_000_000_000 for each in found)


def test_many_members_are_made_ready_in_slices() -> None:
    """The answer has them all; others get their turns meanwhile."""
    members = [ClientInfo("u", f"c{number}") for number in range(5 * SLICE)]

    class Crowded:
        def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
            done(members)

    async def turns_of(reading: Awaitable[PresenceResult]) -> int:
        turns = 0
        task = asyncio.ensure_future(reading)
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert list((await task).presence) == [member.client for member in members]
        return turns

    presence = Members(cast(Messaging, Crowded()), Channels(settings_of(namespaces={"kept": KEPT})))
    assert asyncio.run(turns_of(presence.presence(PresenceRequest(channel="kept:a")))) >= 5
