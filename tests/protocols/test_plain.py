import pytest

from gateway import errors
from gateway.errors import CloseCode, Disconnect, ErrorCode
from gateway.messages import (
    Channel,
    ClientId,
    ConnectResult,
    Kind,
    Publication,
    Publish,
    RefreshResult,
    SubscribeResult,
)
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import Message
from tests.reconnection import reconnects

PROTOCOL = PlainProtocol()
CHANNEL = Channel("default", "c")


def test_every_message_is_a_publish() -> None:
    assert PROTOCOL.decode(b"hi", binary=False) == (Publish(0, "", b"hi", Kind.TEXT),)
    assert PROTOCOL.decode(b"\x00", binary=True) == (Publish(0, "", b"\x00", Kind.BINARY),)
    assert PROTOCOL.decode(b"", binary=False) == (Publish(0, "", b"", Kind.TEXT),)


def test_every_publication_is_a_message_with_nothing_around_it() -> None:
    publications = [
        Publication(CHANNEL, b'{"a":1}', Kind.JSON),
        Publication(CHANNEL, b"hi", Kind.TEXT),
        Publication(CHANNEL, b"\x00", Kind.BINARY),
    ]
    assert PROTOCOL.events(publications) == [
        Message(b'{"a":1}', False),
        Message(b"hi", False),
        Message(b"\x00", True),
    ]


def test_success_is_silent() -> None:
    """There are no replies: nothing but publications reaches the client."""
    assert not PROTOCOL.connected(1, ConnectResult(ClientId("c"), "0", 25))
    assert not PROTOCOL.subscribed(2, "c", SubscribeResult())
    assert not PROTOCOL.published(0)
    assert not PROTOCOL.unsubscribed(1)
    assert not PROTOCOL.refreshed(1, RefreshResult(ClientId("c"), "0"))
    assert not PROTOCOL.sub_refreshed(1, SubscribeResult())
    assert not PROTOCOL.push_subscribe("c", SubscribeResult())
    assert not PROTOCOL.push_refresh(3)
    assert not PROTOCOL.ping()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.INTERNAL, errors.SERVER_ERROR),
        (errors.PERMISSION_DENIED, errors.NOT_PERMITTED),
        (errors.TOO_MANY_REQUESTS, errors.TOO_MANY_COMMANDS),
        (errors.TOKEN_EXPIRED, errors.CONNECTION_EXPIRED),
        (errors.UNKNOWN_CHANNEL, errors.BAD_COMMAND),
    ],
)
def test_failure_closes_with_the_code_that_says_why(error: ErrorCode, code: CloseCode) -> None:
    with pytest.raises(Disconnect) as caught:
        PROTOCOL.failed(2, error)
    assert caught.value.code == (code.code, error.message)


def test_temporary_errors_close_with_codes_to_reconnect_from() -> None:
    """A client may only be sent away for good by an error that lasts."""
    for error in (value for value in vars(errors).values() if isinstance(value, ErrorCode)):
        with pytest.raises(Disconnect) as caught:
            PROTOCOL.failed(0, error)
        assert reconnects(caught.value.code) or not error.temporary


@pytest.mark.parametrize(
    ("code", "close"),
    [
        (errors.UNSUBSCRIBED_BY_SERVER, errors.FORCE_DISCONNECT),
        (errors.UNSUBSCRIBED_INSUFFICIENT, errors.INSUFFICIENT_STATE),
        (errors.UNSUBSCRIBED_EXPIRED, errors.SUBSCRIPTION_EXPIRED),
    ],
)
def test_the_end_of_the_subscription_is_the_end_of_the_connection(
    code: errors.UnsubscribeCode, close: CloseCode
) -> None:
    with pytest.raises(Disconnect) as caught:
        PROTOCOL.push_unsubscribe("c", code)
    assert caught.value.code == close
