"""The clock of the machine is set while connections live: expiry follows it, and nothing else does."""

from gateway import errors
from tests.session.conftest import Client, World

DAY = 86_400.0


def pings(client: Client, world: World, seconds: float) -> int:
    """How many pings came in that time, each answered."""
    count = 0
    for _ in range(int(seconds)):
        world.scheduler.advance(1)
        found = client.transport.take().splitlines().count(b"{}")
        if found:
            client.raw(b"{}")
        count += found
    return count


def test_a_jump_into_the_future_ends_what_has_expired(world: World) -> None:
    """A token of an hour is over after a day; who has none that expires stays and is pinged as before."""
    mortal, immortal = world.connect("ann"), world.connect()
    world.scheduler.jump(DAY)
    assert 1 <= pings(immortal, world, 60) <= 3
    assert mortal.closed_with() == errors.CONNECTION_EXPIRED
    assert immortal.closed_with() is None


def test_a_jump_into_the_past_ends_nothing(world: World) -> None:
    """Pings and their deadlines go by the monotonic clock; the token lives until its time has come."""
    client = world.connect("ann")
    world.scheduler.jump(-DAY)
    assert 1 <= pings(client, world, 60) <= 3
    assert client.closed_with() is None
    world.scheduler.jump(DAY + 3700)
    pings(client, world, 60)
    assert client.closed_with() == errors.CONNECTION_EXPIRED


def test_subscriptions_expire_by_the_clock_too(world: World) -> None:
    client = world.connect("ann", expires_in=None)
    (reply,) = client.send({"id": 2, "subscribe": {"channel": "own:a", "token": world.grant("ann", "own:a")}})
    assert reply["subscribe"]["expires"] is True
    world.scheduler.jump(DAY)
    for _ in range(60):
        world.scheduler.advance(1)
    pushes = [line["push"]["unsubscribe"]["code"] for line in client.got() if "push" in line]
    assert pushes == [2501]
