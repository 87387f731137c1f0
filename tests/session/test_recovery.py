"""What a client is told of streams: positions, what it missed, and what is gone. Also of presence and differences."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from centrifuge.fossil import apply_delta

from gateway import errors
from gateway.control import SubscribeUser
from gateway.epochs import continues
from gateway.hub.encoder import DeltaEncoder
from gateway.messages import Channel, Connect, Position, PublishOptions, Retention, Subscribe
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.one_channel import GONE, NO_HISTORY
from tests.fakes import PlainFraming
from tests.session.conftest import Client, World, lines

MakeWorld = Callable[..., World]
OPEN = {"allow_subscribe": ["client", "anonymous"], "allow_publish": ["client", "anonymous"]}
SETTINGS: dict[str, Any] = {
    "channels": OPEN,
    "namespaces": {
        "kept": {**OPEN, "delivery": "recoverable", "history_size": 5, "delta": True},
        "cache": {**OPEN, "delivery": "recoverable", "recovery": "cache"},
        "closed": {**OPEN, "delivery": "recoverable", "allow_history": []},
        "who": {**OPEN, "presence": True, "allow_presence": ["subscriber"], "join_leave": "clients"},
        "count": {**OPEN, "presence": True},
        "dash": {**OPEN, "delivery": "latest", "latest_interval": 0},
    },
}


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(**SETTINGS)


def publish(world: World, channel: str, *values: object) -> str:
    """Publish with history; the epoch."""
    spec = world.services.channels.resolve("default", channel)
    client = world.connect()
    for value in values:
        (*_, reply) = client.send({"id": 7, "publish": {"channel": channel, "data": value}})
        assert reply == {"id": 7, "publish": {}}
    client.session.closed(1000, "")
    return world.broker.streams.top(spec.channel).epoch


def subscribe(client: Client, channel: str, **fields: Any) -> Any:
    (reply, *rest) = client.send({"id": 9, "subscribe": {"channel": channel, **fields}})
    assert rest == []
    return reply


def pubs(*offsets: int) -> list[dict[str, Any]]:
    """Publications whose data are their offsets, as anonymous clients publish them."""
    return [{"data": offset, "offset": offset} for offset in offsets]


def bare(publications: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without who published, and without the epoch of the first one."""
    return [{key: each[key] for key in ("data", "offset")} for each in publications]


# Subscribe


def test_a_subscription_says_where_it_stands(world: World) -> None:
    """A channel that nothing was published to has a position too; the reply comes before what is published."""
    client = world.connect()
    reply = subscribe(client, "kept:a")["subscribe"]
    assert reply.keys() == {"recoverable", "positioned", "epoch"}
    epoch = publish(world, "kept:a", 1)
    assert continues(reply["epoch"], epoch, 600)
    (push,) = client.got()
    assert push["push"]["pub"]["offset"] == 1
    assert push["push"]["pub"]["epoch"] == epoch
    assert subscribe(world.connect(), "kept:a")["subscribe"] == {
        "recoverable": True,
        "positioned": True,
        "epoch": epoch,
        "offset": 1,
    }


def test_who_came_before_the_first_publication_goes_on_by_its_epoch(world: World) -> None:
    """Many SDKs take none from a publication: whatever they got since, they get the rest, and learn the epoch then."""
    early = subscribe(world.connect(), "kept:a")["subscribe"]["epoch"]
    for seen in (0, 2):
        nothing = subscribe(world.connect(), "kept:a", recover=True, offset=seen, epoch=early)["subscribe"]
        assert nothing.get("recovered", False) is (seen == 0)
    epoch = publish(world, "kept:a", 1, 2, 3)
    for seen in (0, 1, 3):
        reply = subscribe(world.connect(), "kept:a", recover=True, offset=seen, epoch=early)["subscribe"]
        assert reply["recovered"]
        assert reply["epoch"] == epoch
        assert bare(reply.get("publications", [])) == pubs(*range(seen + 1, 4))
        (answer,) = world.connect().send(
            {"id": 2, "history": {"channel": "kept:a", "limit": -1, "since": {"offset": seen, "epoch": early}}}
        )
        assert "error" in answer or answer["history"]["epoch"] == epoch


def test_who_comes_back_gets_what_it_missed_with_the_reply(world: World) -> None:
    """`offset` is the one it asked with (client protocol 2.4); then live."""
    epoch = publish(world, "kept:a", 1, 2, 3)
    client = world.connect()
    reply = subscribe(client, "kept:a", recover=True, offset=1, epoch=epoch)["subscribe"]
    assert bare(reply.pop("publications")) == pubs(2, 3)
    assert reply == {
        "recoverable": True,
        "positioned": True,
        "epoch": epoch,
        "offset": 1,
        "was_recovering": True,
        "recovered": True,
    }
    publish(world, "kept:a", 4)
    (push,) = client.got()
    assert push["push"]["pub"]["offset"] == 4
    nothing = subscribe(world.connect(), "kept:a", recover=True, offset=4, epoch=epoch)["subscribe"]
    assert (nothing["recovered"], nothing["offset"], "publications" in nothing) == (True, 4, False)
    everything = subscribe(world.connect(), "kept:a", recover=True)["subscribe"]
    assert bare(everything["publications"]) == pubs(1, 2, 3, 4)


@pytest.mark.parametrize(("offset", "epoch"), [(1, ""), (99, ""), (2, "other"), (2**63 - 1, ""), (0, "e" * 300)])
def test_what_is_gone_is_said(world: World, offset: int, epoch: str) -> None:
    """Trimmed, in the future, of another epoch: where the stream is now, nothing missed, and never `recovered`."""
    current = publish(world, "kept:a", *range(1, 9))
    fields = {"recover": True, "offset": offset, "epoch": epoch or current}
    reply = subscribe(world.connect(), "kept:a", **fields)["subscribe"]
    assert reply == {"recoverable": True, "positioned": True, "epoch": current, "offset": 8, "was_recovering": True}
    client = world.connect()
    assert subscribe(client, "kept:a", **fields, flag=2)["error"]["code"] == 112
    # It is not subscribed, and may try without.
    assert "subscribe" in subscribe(client, "kept:a")


@pytest.mark.parametrize("offset", [-1, 2**64, 2**70])
def test_what_is_no_offset_is_a_bad_command(world: World, offset: int) -> None:
    client = world.connect()
    client.send({"id": 2, "subscribe": {"channel": "kept:a", "recover": True, "offset": offset, "epoch": "e"}})
    assert client.closed_with() == errors.BAD_COMMAND


def test_without_a_history_nobody_knows_what_was_missed(world: World) -> None:
    """It is subscribed, and told so; or refused, if it asks for all or nothing."""
    position = {"recover": True, "offset": 3, "epoch": "e"}
    assert subscribe(world.connect(), "news", **position) == {"id": 9, "subscribe": {"was_recovering": True}}
    assert subscribe(world.connect(), "news", **position, flag=2)["error"]["code"] == 112


def test_the_newest_one_is_enough_in_cache_mode(world: World) -> None:
    epoch = publish(world, "cache:a", 1, 2, 3)
    reply = subscribe(world.connect(), "cache:a", recover=True)["subscribe"]
    assert (reply["recovered"], bare(reply["publications"])) == (True, pubs(3))
    reply = subscribe(world.connect(), "cache:a", recover=True, offset=3, epoch=epoch)["subscribe"]
    assert (reply["recovered"], "publications" in reply) == (True, False)


def test_an_outage_is_a_temporary_error(world: World) -> None:
    """The client is not subscribed, and holds nothing of the channel."""
    here = world.connect()
    assert "subscribe" in subscribe(here, "kept:a")
    world.broker.up = False
    client = world.connect()
    (reply,) = client.send({"id": 3, "subscribe": {"channel": "kept:a", "recover": True, "offset": 0, "epoch": "x"}})
    assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
    assert world.messaging.hub.count(Channel("default", "kept:a")) == 1


def test_unsubscribing_on_the_way_in(world: World) -> None:
    """The answer to the read comes to nobody; other requests of the channel waited."""
    publish(world, "kept:a", 1)
    client = world.connect()
    world.broker.hold = True
    client.send(
        {"id": 2, "subscribe": {"channel": "kept:a", "recover": True}}, {"id": 3, "unsubscribe": {"channel": "kept:a"}}
    )
    client.session.closed(1006, "")
    world.broker.hold = False
    world.broker.release()
    world.scheduler.run()
    assert world.broker.subscribed == set()
    assert world.messaging.tracker.find(Channel("default", "kept:a")) is None


# The server's subscriptions


def test_a_connect_recovers_what_the_server_subscribes_to(world: World) -> None:
    """Several channels at once, each from its own position; nothing in between is lost or comes twice."""
    epochs = {name: publish(world, name, 1, 2, 3) for name in ("kept:a", "kept:b")}
    client = world.open()
    token = world.token("ann", channels=["kept:a", "kept:b", "news"])
    positions = {
        "kept:a": {"recover": True, "offset": 1, "epoch": epochs["kept:a"]},
        "kept:b": {"recover": True, "offset": 1, "epoch": "other"},
        "kept:c": {"recover": True, "offset": 1, "epoch": "not subscribed"},
    }
    (reply,) = client.send({"id": 1, "connect": {"token": token, "subs": positions}})
    subs = reply["connect"]["subs"]
    assert subs.keys() == {"kept:a", "kept:b", "news"}
    assert bare(subs["kept:a"]["publications"]) == pubs(2, 3)
    assert subs["kept:a"]["recovered"] is True
    assert (subs["kept:b"]["was_recovering"], "recovered" in subs["kept:b"], subs["kept:b"]["offset"]) == (
        True,
        False,
        3,
    )
    assert subs["news"] == {}
    publish(world, "kept:a", 4)
    assert [push["push"]["pub"]["data"] for push in client.got()] == [4]


def test_the_server_subscribes_from_a_position(world: World) -> None:
    """What came after it follows the push."""
    epoch = publish(world, "kept:a", 1, 2, 3)
    client = world.connect("ann")
    world.node.on_control(SubscribeUser("default", "ann", "kept:a", data=b'"d"', since=Position(1, epoch)))
    world.scheduler.turn()
    push, *publications = client.got()
    assert push["push"]["subscribe"] == {
        "recoverable": True, "positioned": True, "epoch": epoch, "offset": 1, "data": "d",
    }  # fmt: skip
    assert [each["push"]["pub"]["data"] for each in publications] == [2, 3]


def test_a_gap_that_cannot_be_filled_ends_subscriptions(world: World) -> None:
    """The client's own with 2500, and it comes back with its position; the server's with the connection."""
    own = world.subscriber("kept:a")
    served = world.open()
    served.send({"id": 1, "connect": {"token": world.token("ann", channels=["kept:a"])}})
    publish(world, "kept:a", 1)
    own.got()
    world.broker.lose_streams()
    publish(world, "kept:a", 2)
    world.scheduler.run()
    (push,) = own.got()
    assert push == {"push": {"channel": "kept:a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
    assert served.closed_with() == errors.INSUFFICIENT_STATE


# Plain


def test_a_plain_connection_goes_on_from_a_position(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What was missed comes first; there is no telling that something is gone but the close. The log says why."""
    caplog.set_level(logging.INFO, "gateway.refusals")
    epoch = publish(world, "kept:a", 1, 2, 3)

    def plain(channel: str, since: Position, token: str = "") -> Client:
        return world.open_plain(
            Connect(1, token, positions={channel: since}), Subscribe(2, channel, since=since), channel=channel
        )

    client = plain("kept:a", Position(1, epoch))
    assert client.got() == [2, 3]
    for channel, since in (("kept:a", Position(1, "other")), ("news", Position(1, epoch))):
        client = plain(channel, since)
        assert (client.got(), client.closed_with()) == ([], errors.POSITION_GONE)
        assert vars(caplog.records[-1])["detail"] == (GONE if channel == "kept:a" else NO_HISTORY)
    # Let in by its token.
    token = world.token("ann", channels=["kept:a"])
    assert plain("kept:a", Position(1, epoch), token).got() == [2, 3]
    assert plain("kept:a", Position(1, "other"), token).closed_with() == errors.POSITION_GONE


# History


def test_history_is_read(world: World) -> None:
    """Without a limit the position; negative and large limits are as much as there may be."""
    epoch = publish(world, "kept:a", 1, 2, 3)
    client = world.subscriber("kept:a")

    def history(**fields: Any) -> tuple[list[int], str, int]:
        (reply,) = client.send({"id": 8, "history": {"channel": "kept:a", **fields}})
        result = reply["history"]
        return [each["offset"] for each in result["publications"]], result["epoch"], result["offset"]

    assert history() == ([], epoch, 3)
    assert history(limit=2) == ([1, 2], epoch, 3)
    assert history(limit=-1) == history(limit=10**9) == ([1, 2, 3], epoch, 3)
    assert history(limit=2, reverse=True) == ([3, 2], epoch, 3)
    assert history(limit=9, since={"offset": 1, "epoch": epoch}) == ([2, 3], epoch, 3)
    assert history(limit=9, since={"offset": 9, "epoch": epoch}) == ([], epoch, 3)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"channel": "news"}, 108),
        ({"channel": "closed:a"}, 103),
        ({"channel": "$kept:a"}, 103),
        ({"channel": "kept:a#bob"}, 103),
        ({"channel": "nowhere:a"}, 102),
        ({"channel": "a b"}, 107),
        ({"channel": "kept:a", "limit": 1, "since": {"offset": 1, "epoch": "other"}}, 112),
    ],
)
def test_history_that_is_not_to_be_had(world: World, body: dict[str, Any], code: int) -> None:
    client = world.subscriber("kept:a")
    (reply,) = client.send({"id": 8, "history": body})
    assert reply["error"]["code"] == code


def test_what_follows_a_read_waits_for_its_answer(world: World) -> None:
    """Answers may be large: a client has one at a time, and they come in their order."""
    client = world.subscriber("kept:a")
    client.send({"id": 4, "subscribe": {"channel": "who:a"}})
    world.broker.hold = True
    sent = [{"id": 5, "history": {"channel": "kept:a"}}, {"id": 6, "presence_stats": {"channel": "who:a"}}]
    assert [line for line in client.send(*sent, {"id": 7, "rpc": {}}) if "id" in line] == []
    paused = client.transport.reading
    world.broker.hold = False
    world.broker.release()
    assert [line["id"] for line in client.got()] == [5, 6, 7]
    assert (paused, client.transport.reading) == (False, True)
    world.broker.hold = True
    client.send({"id": 8, "history": {"channel": "kept:a"}})
    client.session.closed(1006, "")
    world.broker.release()
    assert client.got() == []


def test_reads_that_fail_are_answered(world: World) -> None:
    client = world.subscriber("kept:a")
    world.broker.up = False
    (reply,) = client.send({"id": 8, "history": {"channel": "kept:a"}})
    assert reply["error"]["code"] == 100


# Presence


def test_who_is_there(world: World) -> None:
    """Joins and leaves come after the reply, to everybody; plain connections count and are told nothing."""
    first = world.open()
    first.send({"id": 1, "connect": {"token": world.token("ann", info={"name": "Ann"})}})
    subscribed, join = first.send({"id": 2, "subscribe": {"channel": "who:a"}})
    assert subscribed == {"id": 2, "subscribe": {}}
    ann = {"user": "ann", "client": first.session.client, "conn_info": {"name": "Ann"}}
    assert join == {"push": {"channel": "who:a", "join": {"info": ann}}}
    plain = world.open_plain(Connect(1), Subscribe(2, "who:a"), channel="who:a")
    anonymous = {"user": "", "client": plain.session.client}
    assert first.got() == [{"push": {"channel": "who:a", "join": {"info": anonymous}}}]
    assert plain.got() == []
    (reply,) = first.send({"id": 3, "presence": {"channel": "who:a"}})
    assert reply["presence"] == {"presence": {first.session.client: ann, plain.session.client: anonymous}}
    (reply,) = first.send({"id": 4, "presence_stats": {"channel": "who:a"}})
    assert reply["presence_stats"] == {"num_clients": 2, "num_users": 2}
    plain.session.closed(1000, "")
    assert first.got() == [{"push": {"channel": "who:a", "leave": {"info": anonymous}}}]


@pytest.mark.parametrize(("channel", "code"), [("news", 108), ("count:a", 103), ("who:b", 103), ("$who:a", 103)])
def test_presence_that_is_not_to_be_had(world: World, channel: str, code: int) -> None:
    """Off, not allowed, not subscribed, and protected."""
    client = world.subscriber("count:a")
    client.send({"id": 4, "subscribe": {"channel": "who:a"}})
    for name in ("presence", "presence_stats"):
        (reply,) = client.send({"id": 8, name: {"channel": channel}})
        assert reply["error"]["code"] == code


# Latest values and differences


def test_latest_values_come_with_the_reply(world: World) -> None:
    """And have no position."""
    publish(world, "dash:a", 1, 2)
    client = world.connect()
    reply = subscribe(client, "dash:a", recover=True, flag=2)["subscribe"]
    assert reply.keys() == {"publications"}
    assert [each["data"] for each in reply["publications"]] == [2]
    publish(world, "dash:a", 3)
    world.scheduler.run()
    assert [push["push"]["pub"]["data"] for push in client.got()] == [3]
    client.session.closed(1000, "")
    assert world.messaging.tracker.find(Channel("default", "dash:a")) is None


def test_differences_are_agreed_on(world: World) -> None:
    """Where the namespace has them and the client asks; what was missed comes whole, as a JSON string."""
    world.centrifuge.delta = DeltaEncoder(CentrifugeProtocol(), PlainFraming(lines))
    text = "a rather long text that does not change "
    epoch = publish(world, "kept:a", f"{text}1", f"{text}2")
    client = world.connect()
    reply = subscribe(client, "kept:a", delta="fossil", recover=True, offset=1, epoch=epoch)["subscribe"]
    assert reply["delta"] is True
    (missed,) = reply["publications"]
    assert (json.loads(missed["data"]), missed.get("delta")) == (f"{text}2", None)
    publish(world, "kept:a", f"{text}3", f"{text}4")
    third, fourth = (line["push"]["pub"] for line in client.got())
    assert (json.loads(third["data"]), fourth["delta"]) == (f"{text}3", True)
    assert json.loads(bytes(apply_delta(third["data"].encode(), fourth["data"].encode()))) == f"{text}4"
    for channel, fields in (("kept:b", {}), ("kept:c", {"delta": ""}), ("cache:a", {"delta": "fossil"})):
        assert "delta" not in subscribe(world.connect(), channel, **fields)["subscribe"]
    client.transport.capacity = 1
    publish(world, "kept:a", f"{text}5")
    publish(world, "kept:a", f"{text}6")
    client.session.resume_writing()
    assert [line["push"]["pub"].get("delta") for line in client.got()] == [True, True]
    client.session.closed(1000, "")


def test_kept(world: World) -> None:
    """What clients publish into such a channel is kept as its namespace says."""
    publish(world, "kept:a", 1)
    (_, options) = world.broker.published[-1]
    assert options == PublishOptions(history=Retention(5, 300, 2_592_000))


def test_large_answers_have_their_time(make_world: MakeWorld) -> None:
    """A client that reads and reads is not read from meanwhile; small answers cost nothing."""
    world = make_world(channels={**OPEN, "delivery": "recoverable"}, limits={"publishes_per_second": 0})
    publish(world, "news", *range(500))
    client = world.subscriber("news")
    client.send({"id": 5, "history": {"channel": "news", "limit": 99}})
    assert client.transport.reading
    client.send({"id": 6, "history": {"channel": "news", "limit": 500}})
    held = client.transport.reading
    world.scheduler.advance(0.059)
    still = client.transport.reading
    world.scheduler.advance(0.002)
    assert (held, still, client.transport.reading) == (False, False, True)
    back = world.connect()
    subscribe(back, "news", recover=True)
    assert not back.transport.reading
