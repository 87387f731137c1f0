"""Large answers: one at a time, at a pace that the client's line and this node can bear, and none that is too large."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.hub.fanout import OVERHEAD
from gateway.messages import Channel, ClientInfo, PresenceRules, Publication, PublishOptions, Retention
from gateway.session.inbox import BYTES_PER_SECOND
from tests.session.conftest import Client, World

MakeWorld = Callable[..., World]

KEPT = Retention(1000, 300, 3000)
SIZE = 60_000
OPEN = {"allow_subscribe": ["client", "anonymous"], "allow_history": ["client", "anonymous"]}


@pytest.fixture
def kept(make_world: MakeWorld) -> World:
    return make_world(
        namespaces={
            "kept": {"delivery": "recoverable", **OPEN},
            "newest": {"delivery": "recoverable", "recovery": "cache", **OPEN},
            "dash": {"delivery": "latest", **OPEN},
            "hall": {"presence": True, "allow_presence": ["client", "anonymous"], **OPEN},
        }
    )


def fill(world: World, names: list[str], number: int = 8) -> dict[str, str]:
    """So many large publications in each channel; the epochs."""
    epochs = {}
    for name in names:
        for _ in range(number):
            publication = Publication(Channel("default", name), b'"%b"' % (b"x" * SIZE), time=1)
            stored = world.broker.streams.append(publication, KEPT, "")
            assert stored is not None
            epochs[name] = stored.epoch
    return epochs


def recovering(epochs: dict[str, str]) -> list[dict[str, Any]]:
    """As SDKs do after a reconnect: all in one frame."""
    return [
        {"id": number, "subscribe": {"channel": name, "recover": True, "offset": 0, "epoch": epoch}}
        for number, (name, epoch) in enumerate(epochs.items(), 2)
    ]


def read_slowly(world: World, client: Client, capacity: int) -> list[Any]:
    """Let the client read so many bytes at a time until nothing more comes, and time pass."""
    got = client.got()
    for _ in range(100):
        client.transport.capacity = capacity
        client.session.resume_writing()
        world.scheduler.advance(0.1)
        got += client.got()
    return got


def test_many_channels_are_recovered_over_a_slow_line(kept: World) -> None:
    """Together they are more than may wait for a client; none is given up, and it is not closed for it."""
    epochs = fill(kept, [f"kept:{number}" for number in range(5)])
    client = kept.connect()
    client.transport.capacity = SIZE
    got = client.send(*recovering(epochs))
    kept.scheduler.run()
    assert sum(outbox.size for outbox in kept.services.outboxes) <= kept.settings.limits.outbox
    got += read_slowly(kept, client, SIZE)
    assert client.closed_with() is None
    assert [reply["id"] for reply in got] == [2, 3, 4, 5, 6]
    assert all(reply["subscribe"]["recovered"] for reply in got)
    assert all(len(reply["subscribe"]["publications"]) == 8 for reply in got)


@pytest.mark.parametrize(
    "command",
    [
        {"id": 9, "history": {"channel": "kept:a", "limit": 1}},
        {"id": 9, "subscribe": {"channel": "kept:a", "recover": True}},
        {"id": 9, "subscribe": {"channel": "dash:a"}},
        {"id": 9, "presence": {"channel": "hall:a"}},
    ],
)
def test_what_may_bring_much_waits_until_the_client_has_read(kept: World, command: dict[str, Any]) -> None:
    """And what comes after it, in order; what brings little, before it, does not."""
    client = kept.connect()
    client.session.pause_writing()
    client.send({"id": 8, "unsubscribe": {"channel": "other"}}, command, {"id": 10, "unsubscribe": {"channel": "x"}})
    kept.scheduler.run()
    assert client.got() == []
    (outbox,) = kept.services.outboxes
    assert outbox.size == len(b'{"id":8,"unsubscribe":{}}\n')
    assert not client.transport.reading
    client.session.resume_writing()
    kept.scheduler.run()
    assert [reply["id"] for reply in client.got()] == [8, 9, 10]
    assert client.transport.reading


@pytest.mark.parametrize("reads", [False, True])
def test_a_client_that_reads_nothing_is_closed_though_it_is_not_read_from(kept: World, *, reads: bool) -> None:
    """Its pong may wait in the socket: it has time for as long as it reads, and no longer."""
    heartbeat = kept.settings.heartbeat
    client = kept.connect()
    # Two, of which the second waits.
    kept.broker.hold = True
    client.send(*({"id": number, "history": {"channel": "kept:a"}} for number in (8, 9)))
    client.session.pause_writing()
    for _ in range(int(heartbeat.ping_interval + 3 * heartbeat.pong_timeout)):
        kept.scheduler.advance(1)
        if reads and client.closed_with() is None:
            client.session.resume_writing()
            client.session.pause_writing()
    assert client.closed_with() == (None if reads else errors.NO_PONG)


def test_recoveries_and_histories_come_one_at_a_time(kept: World) -> None:
    """The end of another request does not end the wait for this one."""
    client = kept.connect()
    kept.broker.hold = True
    live = [{"id": 100 + number, "subscribe": {"channel": f"s{number}"}} for number in range(3)]
    large = [{"id": 200 + number, "history": {"channel": f"kept:{number}"}} for number in range(2)]
    client.send(*live, *large, *recovering({"kept:a": "", "kept:b": ""}))
    order = []
    while kept.broker.held:
        # The newest first: whatever ends early lets nothing begin that must wait. A recovery reads twice.
        assert len(kept.broker.held) <= 3 + 2
        kept.broker.held.pop()()
        kept.scheduler.run()
        order += [reply["id"] for reply in client.got()]
    assert sorted(order) == [2, 3, 100, 101, 102, 200, 201]
    assert [each for each in order if each in (200, 201, 2, 3)] == [200, 201, 2, 3]


def test_bytes_are_paced_whatever_the_commands(kept: World) -> None:
    """A short command that costs much, over and over: queued or sent one by one."""
    fill(kept, ["kept:a"])
    command = {"history": {"channel": "kept:a", "limit": 8}}
    client = kept.connect()
    total = 0
    started = kept.scheduler.now()
    client.send(*({"id": 2 + number, **command} for number in range(100)))
    for _ in range(200):
        kept.scheduler.advance(0.01)
        total += len(client.transport.take())
    spent = kept.scheduler.now() - started
    assert 0.5 * BYTES_PER_SECOND * spent < total < BYTES_PER_SECOND * spent + 9 * SIZE


def test_small_answers_add_up(kept: World) -> None:
    """None is worth a pause by itself."""
    fill(kept, ["kept:a"], 1)
    client = kept.connect()
    command = {"history": {"channel": "kept:a", "limit": 1}}
    number = 0
    while client.transport.reading:
        number += 1
        assert number < 10
        client.send({"id": 1 + number, **command})
        kept.scheduler.run()
    kept.scheduler.advance(1)
    assert client.transport.reading


def test_what_a_user_reads_is_paced_over_all_its_connections(kept: World) -> None:
    """One has got much: the others wait when they ask for more, and only then. Others do not wait for them."""
    fill(kept, ["kept:a"])
    history = {"id": 8, "history": {"channel": "kept:a", "limit": 8}}
    one, other, somebody = kept.connect("42"), kept.connect("42"), kept.connect("43")

    def answered(client: Client, command: dict[str, Any]) -> bool:
        got = client.send(command)
        kept.scheduler.run()
        return bool(got + client.got())

    assert answered(one, history)
    assert answered(other, {"id": 7, "unsubscribe": {"channel": "x"}})
    assert not answered(other, history)
    assert answered(somebody, history)
    kept.scheduler.advance(8 * SIZE / BYTES_PER_SECOND + 0.01)
    assert [reply["id"] for reply in other.got()] == [8]


def test_a_user_who_reads_with_many_connections_gets_no_more_than_with_one(kept: World) -> None:
    """None of them is closed for it, however long it waits."""
    fill(kept, ["kept:a"])
    commands = [{"id": number, "history": {"channel": "kept:a", "limit": 8}} for number in range(1, 400)]
    clients = [kept.connect("42") for _ in range(10)]
    for client in clients:
        client.send(*commands)
    started, total = kept.scheduler.now(), 0
    for _ in range(900):
        kept.scheduler.advance(0.1)
        for client in clients:
            total += sum(map(len, client.transport.written))
            client.transport.written.clear()
    spent = kept.scheduler.now() - started
    assert 0.5 * BYTES_PER_SECOND * spent < total < 1.1 * BYTES_PER_SECOND * spent
    assert not any(client.closed_with() for client in clients)


def test_what_a_connect_recovers_fits_into_one_reply(kept: World) -> None:
    """Channels beyond are told that they have not recovered; they go on where the others stand."""
    names = [f"kept:{number}" for number in range(10)]
    epochs = fill(kept, names, 4)
    client = kept.open()
    subs = {name: {"recover": True, "offset": 0, "epoch": epoch} for name, epoch in epochs.items()}
    got = client.send({"id": 1, "connect": {"token": kept.token("42", channels=names), "subs": subs}})
    kept.scheduler.run()
    (reply,) = got + client.got()
    results = reply["connect"]["subs"]
    recovered = [name for name in names if results[name].get("recovered")]
    assert len(recovered) == kept.settings.limits.outbox // 2 // (4 * (SIZE + 2 + OVERHEAD))
    for name in names:
        assert (len(results[name].get("publications", [])), name in recovered) in ((4, True), (0, False))
        assert results[name].get("offset", 0) == (0 if name in recovered else 4)
    kept.publish("kept:9", 5)
    assert client.got()


def test_an_excluded_connection_does_not_get_it_by_recovery(kept: World) -> None:
    """It knows already; its position goes on."""
    client = kept.subscriber("kept:a")
    room = Channel("default", "kept:a")
    for exclude in (client.session.client, ""):
        publication = Publication(room, b'"x"', time=1, exclude_client=exclude)
        kept.messaging.publish(publication, PublishOptions(history=KEPT), lambda outcome: None)
    kept.scheduler.run()
    assert len(client.got()) == 1
    client.send({"id": 5, "unsubscribe": {"channel": "kept:a"}})
    epoch = kept.broker.streams.top(room).epoch
    (mine,) = client.send(*recovering({"kept:a": epoch})) or client.got()
    assert mine["subscribe"]["recovered"]
    assert [each["offset"] for each in mine["subscribe"]["publications"]] == [2]
    other = kept.connect()
    (theirs,) = other.send(*recovering({"kept:a": epoch})) or other.got()
    assert [each["offset"] for each in theirs["subscribe"]["publications"]] == [1, 2]


def test_the_position_goes_on_where_all_that_was_missed_is_left_out(kept: World) -> None:
    """Else the client would ask for it again and again, until the history has it no more."""
    client = kept.connect()
    room = Channel("default", "kept:a")
    for _ in range(3):
        publication = Publication(room, b'"x"', time=1, exclude_client=client.session.client)
        kept.messaging.publish(publication, PublishOptions(history=KEPT), lambda outcome: None)
    kept.scheduler.run()
    epoch = kept.broker.streams.top(room).epoch
    (reply,) = client.send(*recovering({"kept:a": epoch})) or client.got()
    assert reply["subscribe"]["recovered"]
    assert "publications" not in reply["subscribe"]
    assert reply["subscribe"]["offset"] == 3


def test_recoveries_whose_tokens_are_late_come_one_at_a_time(kept: World) -> None:
    """Keys that have to be fetched first: all verdicts come at once, and none is too much for a slow line."""
    epochs = fill(kept, [f"kept:{number}" for number in range(5)])
    client = kept.connect("42")
    kept.verifier.hold = True
    client.transport.capacity = SIZE
    commands = recovering(epochs)
    for command in commands:
        command["subscribe"]["token"] = kept.grant("42", command["subscribe"]["channel"])
    commands[1]["subscribe"]["token"] = kept.grant("42", "kept:1", expires_in=-100)
    got = client.send(*commands)
    kept.verifier.hold = False
    kept.verifier.release()
    kept.scheduler.run()
    assert sum(outbox.size for outbox in kept.services.outboxes) <= kept.settings.limits.outbox
    got += read_slowly(kept, client, SIZE)
    assert client.closed_with() is None
    assert [(reply["id"], "error" in reply) for reply in got] == [(number, number == 3) for number in range(2, 7)]


def test_members_are_paced_by_their_bytes(kept: World) -> None:
    """Few of them may bring much."""
    for number in range(8):
        info = ClientInfo("user", f"client{number}", b'"%b"' % (b"x" * SIZE))
        kept.presence.enter(Channel("default", "hall:a"), info, PresenceRules())
    client = kept.connect()
    client.send({"id": 2, "presence": {"channel": "hall:a"}})
    kept.scheduler.turn()
    assert not client.transport.reading
    kept.scheduler.advance(8 * SIZE / BYTES_PER_SECOND + 0.01)
    assert client.transport.reading


def test_members_who_tell_too_much_of_themselves_are_no_answer(kept: World) -> None:
    """As much as of a history: half of what may wait for a client."""
    most = kept.settings.limits.outbox // 2
    for number in range(most // SIZE + 1):
        info = ClientInfo("user", f"client{number}", b'"%b"' % (b"x" * SIZE))
        kept.presence.enter(Channel("default", "hall:a"), info, PresenceRules())
    client = kept.connect()
    (reply,) = client.send({"id": 2, "presence": {"channel": "hall:a"}})
    assert reply["error"]["code"] == errors.LIMIT_EXCEEDED.code
    (reply,) = client.send({"id": 3, "presence_stats": {"channel": "hall:a"}})
    assert reply["presence_stats"]["num_clients"] == most // SIZE + 1


def test_the_position_of_the_newest_one_is_in_front_of_it(kept: World) -> None:
    """Whatever the client believed: it may be cut before the publication comes."""
    for _ in range(3):
        stored = kept.broker.streams.append(Publication(Channel("default", "newest:a"), b"1", time=1), KEPT, "")
    assert stored is not None
    client = kept.connect()
    subscribe = {"channel": "newest:a", "recover": True, "offset": 100, "epoch": "old"}
    (reply,) = client.send({"id": 6, "subscribe": subscribe}) or client.got()
    assert (reply["subscribe"]["offset"], reply["subscribe"]["epoch"]) == (2, stored.epoch)
    assert [each["offset"] for each in reply["subscribe"]["publications"]] == [3]
