"""Names in Redis: no two things share one, and what belongs together lies in one slot."""

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.broker.redis.keyspace import HOME, SLOTS, Keys, LeaseId, partition_tags, slot
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
    (found,) = {tag(key) for key in [*of_channel(channel, idempotency_key), occupied]}
    assert found == partition_tags(16)[KEYS.partition(channel)].encode()


@settings(derandomize=True, deadline=None)
@given(partitions=st.integers(1, SLOTS // 2))
def test_partitions_spread_evenly_over_any_number_of_servers(partitions: int) -> None:
    """Servers that divide the slots evenly, each having one contiguous range of them, as Redis Cluster does it."""
    tags = partition_tags(partitions)
    slots = [slot(tag) for tag in tags]
    assert len(set(slots)) == partitions
    assert slots == sorted(slots)
    for servers in range(1, 33):
        ends = [round(SLOTS * number / servers) for number in range(servers + 1)]
        counts = [bisect_left(slots, end) - bisect_left(slots, start) for start, end in pairwise(ends)]
        assert max(counts) - min(counts) <= (2 if partitions % servers else 0)


def test_tags_stay_the_same() -> None:
    """Whatever is stored lies under them: all versions must find the same ones."""
    assert partition_tags(4) == ["3", "2", "1", "0"]
    assert partition_tags(16)[:4] == ["18", "3", "61", "58"]
    assert max(map(len, partition_tags(256))) <= 4


def test_a_slot_is_that_of_redis_cluster() -> None:
    """The first is the check value of the cluster specification; CLUSTER KEYSLOT told the others."""
    assert [slot(each) for each in ("123456789", "foo", "0", HOME)] == [12739, 12182, 13907, 10814]


def test_what_there_is_one_of_lies_in_one_place_whatever_the_number_of_partitions() -> None:
    for keys in (Keys("gw", 1), Keys("gw", 256)):
        ones = [keys.leases(), keys.lease(LeaseId("x")), keys.control(), keys.control_log(), keys.node(NodeId("x"))]
        ones += [keys.reaper(), keys.revoked(), keys.partition_count(), keys.generation()]
        assert {tag(key) for key in ones} == {HOME.encode()}


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
