"""Names in Redis: no two things share one, and what belongs together lies in one slot."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.control import NodeId
from gateway.messages import Channel

names = st.text(st.sampled_from("ab:{}0123*[]\\ "), min_size=1, max_size=12)
channels = st.builds(Channel, app=names, name=names)
KEYS = Keys("gw", 16)


def tag(key: bytes) -> bytes:
    """What Redis Cluster hashes: what stands between the first `{` and the first `}` after it (cluster spec)."""
    start = key.index(b"{")
    return key[start + 1 : key.index(b"}", start)]


def of_channel(channel: Channel, idempotency_key: str) -> list[bytes]:
    return [KEYS.bus(channel), KEYS.occupancy(channel), KEYS.result(channel, idempotency_key)]


@settings(derandomize=True)
@given(channels, names)
def test_all_of_a_channel_lies_in_one_slot(channel: Channel, idempotency_key: str) -> None:
    """Braces in names change nothing: scripts touch several of these keys at once."""
    occupied = KEYS.occupied(channel.app, KEYS.partition(channel))
    assert {tag(key) for key in [*of_channel(channel, idempotency_key), occupied]} == {b"%d" % KEYS.partition(channel)}
    assert 0 <= KEYS.partition(channel) < 16


@settings(derandomize=True, max_examples=500)
@given(channels, channels, names, names)
def test_no_two_channels_share_a_key(first: Channel, second: Channel, one: str, other: str) -> None:
    if first != second:
        assert not set(of_channel(first, one)) & set(of_channel(second, other))
    elif one != other:
        assert KEYS.result(first, one) != KEYS.result(first, other)


def test_kinds_and_prefixes_are_apart() -> None:
    """No name of a channel or node makes one kind look like another."""
    room, uid = Channel("", "x"), NodeId("x")
    keys = [
        *of_channel(room, "x"),
        KEYS.occupied("", 0),
        KEYS.lease(LeaseId("x")),
        KEYS.node(uid),
        KEYS.leases(),
        KEYS.reaper(),
        KEYS.held(0, "", LeaseId("x")),
        KEYS.leaving(0, ""),
        KEYS.farewells(0, ""),
        KEYS.revoked(),
        KEYS.control(),
        KEYS.control_log(),
        KEYS.partition_count(),
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(b"gw:") for key in keys)
    assert Keys("staging", 16).bus(room) != KEYS.bus(room)


def test_the_number_of_partitions_is_found_whatever_it_is() -> None:
    """A node with another number must find it to refuse."""
    assert Keys("gw", 1).partition_count() == Keys("gw", 4096).partition_count()


def test_channels_spread_over_the_partitions() -> None:
    used = {KEYS.partition(Channel("default", f"room{number}")) for number in range(500)}
    assert used == set(range(16))


def test_databases_of_one_server_share_no_bus_channel() -> None:
    """Pub/sub knows no databases. Keys are apart anyway."""
    room, uid, other = Channel("default", "x"), NodeId("x"), Keys("gw", 16, 1)
    for ours, theirs in (
        (KEYS.bus(room), other.bus(room)),
        (KEYS.control(), other.control()),
        (KEYS.node(uid), other.node(uid)),
    ):
        assert ours != theirs
        assert tag(ours) == tag(theirs)
    assert KEYS.meta(room) == other.meta(room)
