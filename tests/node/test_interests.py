"""Reference counts: the broker is asked once per channel, whoever comes and goes meanwhile."""

import pytest

from gateway.errors import BrokerUnavailable, RequestError
from gateway.guard import Guard
from gateway.messages import Channel
from gateway.metrics import Metrics
from gateway.node.interests import Interests
from tests.fakes import GUARD, ManualBroker

ROOM = Channel("default", "room")


def test_the_broker_is_asked_once() -> None:
    """Those who come while it is being asked wait with the first; those who come later are served at once."""
    broker = ManualBroker()
    broker.hold = True
    interests = Interests(broker, GUARD)
    done: list[RequestError | None] = []
    interests.acquire(ROOM, done.append)
    interests.acquire(ROOM, done.append)
    assert done == []
    assert len(broker.held) == 1
    broker.release()
    assert done == [None, None]
    interests.acquire(ROOM, done.append)
    assert done == [None] * 3
    for _ in range(2):
        interests.release(ROOM)
    assert broker.subscribed == {ROOM}
    interests.release(ROOM)
    assert broker.subscribed == set()


def test_a_failure_reaches_all_who_wait_and_leaves_nothing() -> None:
    """The next one asks again."""
    broker = ManualBroker()
    broker.hold = True
    interests = Interests(broker, GUARD)
    done: list[RequestError | None] = []
    interests.acquire(ROOM, done.append)
    interests.acquire(ROOM, done.append)
    broker.up = False
    broker.release()
    assert [type(outcome) for outcome in done] == [BrokerUnavailable] * 2
    broker.up, broker.hold = True, False
    interests.acquire(ROOM, done.append)
    assert done[2:] == [None]
    assert broker.subscribed == {ROOM}


def test_who_leaves_in_its_own_completion_does_not_disturb_the_others() -> None:
    """A session may be gone by the time the broker answers."""
    broker = ManualBroker()
    broker.hold = True
    interests = Interests(broker, GUARD)
    done: list[str] = []

    def gone(outcome: RequestError | None) -> None:
        done.append("gone")
        interests.release(ROOM)

    interests.acquire(ROOM, gone)
    interests.acquire(ROOM, lambda _: done.append("there"))
    broker.release()
    assert done == ["gone", "there"]
    assert broker.subscribed == {ROOM}


def test_a_subscriber_whose_completion_fails_does_not_harm_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """They are called all the same, and the broker notices nothing."""
    faults = Metrics().faults
    for up in (True, False):
        broker = ManualBroker()
        broker.hold = True
        interests = Interests(broker, Guard(faults))
        done: list[RequestError | None] = []

        def failing(outcome: RequestError | None) -> None:
            raise RuntimeError("a fault of a session")

        for completion in (done.append, failing, done.append):
            interests.acquire(ROOM, completion)
        broker.up = up
        broker.release()
        assert len(done) == 2
        assert (done[0] is None) is up
    assert faults.values == {"completion": 2}
    assert "a fault of a session" in caplog.text
