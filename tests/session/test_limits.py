"""Limits of one user, and of what comes in one frame."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from tests.session.conftest import Client, World

MakeWorld = Callable[..., World]


def codes(client: Client, *commands: dict[str, Any]) -> list[int]:
    """What each is answered with, 0 for no error."""
    return [reply.get("error", {}).get("code", 0) for reply in client.send(*commands)]


def subscribes(first: int, count: int, **fields: str) -> list[dict[str, Any]]:
    return [{"id": 1 + n, "subscribe": {"channel": f"room{n}", **fields}} for n in range(first, first + count)]


def test_a_client_comes_back_with_all_its_channels_in_one_frame(world: World) -> None:
    """As SDKs do: a connect and 128 subscribes, each with a token of usual size, are more than one message may be."""
    tokens = [world.grant("42", f"closed:room{number}", info={"name": "x" * 200}) for number in range(128)]
    commands: list[dict[str, Any]] = [{"id": 1, "connect": {"token": world.token("42")}}]
    commands += [
        {"id": 2 + number, "subscribe": {"channel": f"closed:room{number}", "token": token}}
        for number, token in enumerate(tokens)
    ]
    limits = world.settings.limits
    frame = "\n".join(map(json.dumps, commands)).encode()
    assert limits.message_size < len(frame) < limits.frame_size
    client = world.open()
    client.session.received(frame, binary=False)
    world.scheduler.run()
    assert [reply["id"] for reply in client.got() if "error" not in reply] == list(range(1, 130))


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_a_command_has_the_size_of_a_message(world: World, size: int) -> None:
    """Alone in its frame or with others, on any protocol; the log names the setting."""
    command = b'{"id":2,"publish":{"channel":"room","data":"%b"}}'
    command %= b"x" * (size - len(command) + 2)
    assert len(command) == size
    client = world.connect()
    client.raw(command + b'\n{"id":3,"publish":{"channel":"room","data":1}}')
    assert (client.closed_with() == errors.MESSAGE_TOO_BIG) is (size > 65_536)
    plain = world.open_plain(channel="room")
    plain.session.received(b"x" * size, binary=True)
    assert (plain.closed_with() == errors.MESSAGE_TOO_BIG) is (size > 65_536)


def test_subscribes_of_a_user_are_counted_over_all_its_connections(make_world: MakeWorld) -> None:
    """And of an anonymous client by itself. A second later there is room again."""
    world = make_world(limits={"subscribes_per_second": 5})
    one, other = world.connect("42"), world.connect("42")
    assert codes(one, *subscribes(1, 3)) == [0] * 3
    assert codes(other, *subscribes(1, 3)) == [0, 0, 111]
    assert codes(world.connect("43"), *subscribes(1, 5)) == [0] * 5
    for _ in range(2):
        assert codes(world.connect(), *subscribes(1, 6)) == [0] * 5 + [111]
    world.scheduler.advance(1)
    assert codes(other, *subscribes(10, 5)) == [0] * 5


def test_channels_of_a_user_are_counted_over_all_its_connections(make_world: MakeWorld) -> None:
    """Those of the server too; who leaves one, or the node, makes room. Anonymous clients are nobody's."""
    world = make_world(limits={"channels_per_user": 4})
    one, other = world.connect("42"), world.connect("42", channels=["own:1"])
    assert codes(one, *subscribes(1, 2)) == [0, 0]
    assert codes(other, *subscribes(1, 2)) == [0, 106]
    assert codes(world.connect("43"), *subscribes(1, 4)) == [0] * 4
    assert codes(world.connect(), *subscribes(1, 6)) == [0] * 6
    one.send({"id": 9, "unsubscribe": {"channel": "room1"}})
    assert codes(other, *subscribes(2, 2)) == [0, 106]
    one.session.disconnect(errors.FORCE_DISCONNECT)
    assert codes(other, *subscribes(3, 1)) == [0]


def test_lines_are_paid_for_before_they_are_read(world: World) -> None:
    """Empty ones too, in one frame: a frame of line breaks would keep the loop for 200 ms, and count as one command."""
    client = world.connect("ann")
    client.session.received(b"\n" * 300_000 + b'{"id":2,"presence_stats":{"channel":"news"}}', binary=False)
    assert client.closed_with() == errors.TOO_MANY_COMMANDS


def test_a_line_break_at_the_end_is_no_command(world: World) -> None:
    assert world.connect("ann").session.codec.count(b"{}\n") == 1
    assert world.connect("ann").session.codec.count(b"{}\n\n{}") == 3


def test_a_user_who_comes_back_has_no_new_share_of_subscribes(make_world: MakeWorld) -> None:
    """Only when the second is over."""
    world = make_world(limits={"subscribes_per_second": 3})

    def granted() -> int:
        client = world.connect("ann")
        granted = codes(client, *subscribes(1, 4)).count(0)
        client.session.closed(1000, "")
        return granted

    assert granted() == 3
    assert granted() == 0
    world.scheduler.advance(1.1)
    assert granted() == 3


@pytest.mark.parametrize(("before", "after"), [(0, 3), (5, 3), (3, 5), (3, 0)])
def test_limits_that_a_reload_changes_hold_for_a_user_who_stays(make_world: MakeWorld, before: int, after: int) -> None:
    """As soon as it has a new connection, for all of them."""
    world = make_world(limits={"subscribes_per_second": before, "publishes_per_second": before})
    kept = world.connect("42")
    limits = {"subscribes_per_second": after, "publishes_per_second": after}
    world.services.limits = world.services.limits.model_copy(update=limits)
    expected = min(after or 10, 10)
    assert codes(world.connect("42"), *subscribes(1, 10)).count(0) == expected
    assert codes(kept, *subscribes(1, 10)).count(0) == (10 if not after else 0)
    publishes = [{"id": number, "publish": {"channel": "room", "data": 1}} for number in range(1, 11)]
    assert codes(kept, *publishes).count(0) == expected


def test_users_who_left_are_forgotten_once_they_have_a_whole_share(make_world: MakeWorld) -> None:
    """However long that takes for another one who left before them."""
    world = make_world(limits={"subscribes_per_second": 3})
    first = world.connect("first")
    first.session.share.rested_at = world.scheduler.now() + 100
    first.session.closed(1000, "")
    for number in range(20):
        client = world.connect(f"user{number}")
        client.send(*subscribes(1, 3))
        client.session.closed(1000, "")
        world.scheduler.advance(1.1)
    assert len(world.clients._left) <= 3
    again = world.connect("first")
    assert again.session.share is first.session.share
