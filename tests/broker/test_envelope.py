"""The envelope: every publication survives it, and nothing else is taken for one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.broker import envelope
from gateway.broker.envelope import EnvelopeError
from gateway.messages import Channel, ClientInfo, Kind, Publication

ROOM = Channel("default", "room")

text = st.text(max_size=20)
json_texts = st.recursive(st.none() | text | st.integers(), lambda inner: st.lists(inner, max_size=3)).map(
    lambda value: json.dumps(value).encode()
)
payloads = st.one_of(
    st.tuples(st.just(Kind.JSON), json_texts),
    st.tuples(st.just(Kind.TEXT), text.map(str.encode)),
    st.tuples(st.just(Kind.BINARY), st.binary(max_size=200)),
)
infos = st.builds(
    ClientInfo, user=text, client=text, conn_info=st.just(b"") | json_texts, chan_info=st.just(b"") | json_texts
)
publications = st.builds(
    lambda payload, **fields: Publication(data=payload[1], kind=payload[0], **fields),
    payload=payloads,
    channel=st.just(ROOM),
    time=st.integers(0, 2**53),
    event=text,
    tags=st.none() | st.dictionaries(text, text, max_size=3),
    info=st.none() | infos,
    exclude_client=text,
    version=st.integers(0, 2**53),
)


@settings(derandomize=True)
@given(publications)
def test_a_publication_survives(publication: Publication) -> None:
    assert envelope.decode(ROOM, envelope.live(publication)) == publication


@settings(derandomize=True)
@given(publications, st.integers(1, 2**63 - 1), st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=16))
def test_a_position_is_put_in_front_without_reading_the_body(publication: Publication, offset: int, epoch: str) -> None:
    """As the script that gives out offsets will do it."""
    message = envelope.HEAD + f"{offset}:{epoch};".encode() + envelope.encode(publication)
    decoded = envelope.decode(ROOM, message)
    assert isinstance(decoded, Publication)
    assert (decoded.offset, decoded.epoch, decoded.data) == (offset, epoch, publication.data)


@settings(derandomize=True)
@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_refused_with_one_error(message: bytes) -> None:
    """Nothing else comes out, whatever goes in; behind a right head too."""
    for candidate in (message, envelope.HEAD + message, envelope.HEAD + b";" + message):
        try:
            envelope.decode(ROOM, candidate)
        except EnvelopeError:
            continue


@settings(derandomize=True)
@given(publications, st.data())
def test_a_cut_message_is_refused(publication: Publication, data: st.DataObject) -> None:
    message = envelope.live(publication)
    with pytest.raises(EnvelopeError):
        envelope.decode(ROOM, message[: data.draw(st.integers(0, len(message) - 1))])


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\x02p;", b"\x01x;", b"\x01p", b"\x01p1:;", b"\x01p:e;", b"\x01p0:e;", b"\x01p-1:e;", b"\x01p1;"),
        # Larger than any number that a client could be told.
        *(b"\x01p%d:e;" % 2**63, b"\x01p" + b"9" * 60 + b":e;"),
    ],
)
def test_another_version_or_a_wrong_position_is_refused(head: bytes) -> None:
    body = envelope.encode(Publication(ROOM, b"1"))
    with pytest.raises(EnvelopeError):
        envelope.decode(ROOM, head + body)


def test_the_end_of_the_position_is_looked_for_near_its_start() -> None:
    """A body may hold any byte."""
    body = envelope.encode(Publication(ROOM, b";" * 10))
    with pytest.raises(EnvelopeError, match="no end"):
        envelope.decode(ROOM, envelope.HEAD + b"1" * 100 + b";" + body)
