"""What is kept until an end has been told."""

import pytest

from gateway.errors import RequestError
from gateway.hooks.events import DisconnectEvent, UnsubscribeEvent, about, ended
from gateway.hooks.questions import Peer
from gateway.messages import User

ANN = User("default", "ann")


def peer(meta: object = None) -> Peer:
    found = Peer(None, address="10.0.0.1", protocol="plain", transport="websocket")
    found.meta = meta
    return found


@pytest.mark.parametrize("meta", [None, {"rooms": [1, 2]}, "ä", 0, False, []])
def test_all_comes_back(meta: object) -> None:
    event = ended("7", 5, about("c1", ANN, peer(meta)), 3501, "bad request")
    assert event == DisconnectEvent(
        id="7",
        time=5,
        client="c1",
        user="ann",
        address="10.0.0.1",
        protocol="plain",
        transport="websocket",
        meta=meta,
        code=3501,
        reason="bad request",
    )
    event = ended("8", 5, about("c1", ANN, peer(meta), "room:1"), 0, "")
    assert isinstance(event, UnsubscribeEvent)
    assert (event.channel, event.meta, event.whose) == ("room:1", meta, "c1")


@pytest.mark.parametrize("meta", [object(), {1: object()}, lambda: None])
def test_what_has_no_json_is_refused_at_the_connect(meta: object) -> None:
    """Not when nobody is there to be told."""
    with pytest.raises(RequestError, match=r"ConnectResult\.meta has no JSON"):
        about("c1", ANN, peer(meta))


@pytest.mark.parametrize("packed", [b"", b"\xff", b"\x91\xa1c", b"\xc1" * 100, b"\x97" + b"\xa1c" * 6])
def test_what_no_node_has_written_is_no_event(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ended("1", 1, packed, 0, "")
