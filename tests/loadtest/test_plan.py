"""Who connects where, and plans that make no run."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_loadtest.planning.plan import Plan, StagePlan, UsageError, publishers, some, subscribers
from gateway_loadtest.planning.scenarios import steady

STAGES = steady(1)


def plan(**fields: Any) -> Plan:
    defaults = {
        "scenario": "s",
        "targets": ("ws://a", "ws://b", "ws://c"),
        "stages": STAGES,
        "channels": 1,
        "members": 1,
    }
    return Plan(**{**defaults, **fields})


@given(
    channels=st.integers(0, 12),
    members=st.integers(0, 5),
    step=st.integers(1, 4),
    idle=st.integers(1, 9),
    workers=st.integers(1, 4),
)
def test_every_member_of_every_channel_has_a_connection(
    channels: int, members: int, step: int, idle: int, workers: int
) -> None:
    """However many processes share them."""
    it = plan(channels=channels, members=members, channels_per_connection=step, idle=idle)
    shares = [list(subscribers(it, worker, workers)) for worker in range(workers)]
    everybody = [client for share in shares for client in share]
    counts = [sum(channel in client.channels for client in everybody) for channel in range(channels)]
    assert counts == [members] * channels
    assert len(everybody) == it.connections
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_subscribers_are_on_other_nodes_than_the_publisher() -> None:
    """And on all of them, when there are enough."""
    it = plan(channels=6, members=3)
    for channel in range(6):
        targets = [client.target for client in subscribers(it, 0, 1) if channel in client.channels]
        assert sorted(targets) == [0, 1, 2]
        assert targets[0] != it.publisher_target(channel)


def test_every_channel_is_published_over_one_connection() -> None:
    """So that its publications keep their order."""
    it = plan(channels=500)
    clients = publishers(it)
    assert sorted(channel for client in clients for channel in client.channels) == list(range(500))
    assert all(it.publisher_target(channel) == client.target for client in clients for channel in client.channels)
    assert len(clients) == it.publishers < 60
    raw = plan(channels=50, protocol="raw", targets=("ws://a/{channel}",))
    assert len(publishers(raw)) == 50


def test_emulated_clients_have_two_sockets() -> None:
    """The one with their commands counts where files and ports are counted."""
    targets = ("http://a",)
    alone = plan(members=5, protocol="sse", targets=targets)
    assert alone.sockets == alone.connections + alone.publishers == 6
    assert plan(members=5, protocol="centrifuge_sse", targets=targets).sockets == 12


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({"targets": ()}, "at least one target"),
        ({"targets": ("http://a",)}, "not 'http://a'"),
        ({"targets": ("ws://",)}, "not 'ws://'"),
        ({"targets": ("ws://a:99999",)}, "not 'ws://a:99999'"),
        ({"targets": ("ws://a:0",)}, "not 'ws://a:0'"),
        ({"targets": ("ws://a:b",)}, "not 'ws://a:b'"),
        ({"targets": ("ws://[::1",)}, "a target as"),
        ({"targets": (f"ws://{'a' * 64}.b",)}, "a target as"),
        ({"targets": ("ws://a..b",)}, "a target as"),
        ({"targets": ("ws://u:1/hush@a",)}, r"a target as .*, not \*\*\*$"),
        ({"targets": ("ws://a:b?token=hush",)}, r"a target as .*, not \*\*\*$"),
        ({"metrics": ("http://u:hush#@a",)}, r"a metrics page as .*, not \*\*\*$"),
        ({"metrics": ("http://a:99999/metrics",)}, "a metrics page as"),
        ({"redis": "redis://:hush/1@a"}, "a Redis as redis://"),
        ({"redis": "redis://a:99999"}, "a Redis as redis://"),
        ({"redis": "redis://a?db=²"}, "a Redis as redis://"),
        ({"redis": "redis://a?timeout=hush"}, "a Redis as redis://"),
        ({"redis": "redis://a?db"}, "a Redis as redis://"),
        ({"redis": "unix://u:hush#@/run/a"}, "a Redis as redis://"),
        ({"redis": "http://a"}, "a Redis as redis://"),
        ({"targets": ("ws://a/b c",)}, "a target as"),
        ({"targets": ("ws://a/\r\nX: y",)}, "a target as"),
        ({"metrics": ("a:9000/metrics",)}, "a metrics page as"),
        ({"metrics": ("file:///etc/passwd",)}, "a metrics page as"),
        ({"max_refused": -1}, "max_refused of at least 0"),
        ({"grace": 1e300}, "grace from 0 seconds to a year"),
        ({"rate": 0.1, "stages": steady(3)}, "at least one publication"),
        ({"stages": steady(0)}, "at least one publication"),
        ({"targets": ("ws://a",), "protocol": "raw"}, r"\{channel\} in the target"),
        ({"targets": ("ws://a",), "protocol": "sse"}, "a target as http://host:port or https://host:port"),
        ({"targets": ("http://a",), "protocol": "centrifuge"}, "a target as ws://host:port or wss://host:port"),
        ({"targets": ("http://a/else",), "protocol": "sse"}, r"one that ends with /sse/\{channel\}"),
        (
            {"channels_per_connection": 2, "channels": 2, "protocol": "sse", "targets": ("http://a",)},
            "one channel per connection in sse",
        ),
        ({"protocol": "mqtt"}, "a protocol of centrifuge"),
        ({"channels": 0}, "at least one connection"),
        ({"channels": -1}, "channels of at least 0"),
        ({"payload": 10}, "a payload of at least 64 bytes"),
        ({"channels_per_connection": 0}, "at least one channel per connection"),
        ({"connect_rate": 0}, "connect_rate above 0"),
        ({"stages": ()}, "at least one stage"),
        ({"stages": (StagePlan("x", -1),)}, "stage 'x': seconds"),
        ({"stages": (StagePlan("x", math.inf),)}, "stage 'x': seconds"),
        ({"stages": (StagePlan("x", 1, pause=-1),)}, "stage 'x': a pause"),
        ({"stages": (StagePlan("x", 1, rate=math.inf),)}, "stage 'x': a rate"),
        ({"rate": math.nan}, "rate of at least 0"),
        ({"connect_timeout": math.inf}, "connect_timeout above 0"),
        ({"stages": (StagePlan("x", 1, drop=1.5),)}, "stage 'x': shares"),
        ({"stages": (StagePlan("x", 1, rate=-1),)}, "stage 'x': a rate"),
        (
            {"channels_per_connection": 2, "channels": 2, "protocol": "raw", "targets": ("ws://a/{channel}",)},
            "one channel",
        ),
    ],
)
def test_what_makes_no_run_is_said(fields: dict[str, Any], needed: str) -> None:
    with pytest.raises(UsageError, match=needed) as caught:
        plan(**fields)
    assert "hush" not in str(caught.value)


def test_where_a_redis_may_be() -> None:
    """As redis-py reads them."""
    for url in ("redis://a", "rediss://u:p@[::1]:1/2", "redis://a?db=3", "unix:///run/a", "unix://:p@/run/a?db=1"):
        assert plan(redis=url).redis == url


def test_a_share_is_chosen_alike_by_all_workers() -> None:
    """One at least, and others in the next stage."""
    it = plan(channels=10, members=10)
    assert [len(some(it, share, "drop", 1)) for share in (0.0, 0.001, 0.5, 1.0)] == [0, 1, 50, 100]
    assert some(it, 0.5, "drop", 1) == some(it, 0.5, "drop", 1) != some(it, 0.5, "drop", 2)


def test_secrets_are_not_in_the_result() -> None:
    """Nor in the report: targets may hold a token, and pages a password."""
    it = plan(
        token_secret="hush", redis="redis://:hush@h", targets=("ws://u:hush@a:1/ws/{channel}?token=hush",),
        metrics=("http://u:hush@a:2/metrics",),
    )  # fmt: skip
    assert "hush" not in str(it.options)
    assert it.options["targets"] == ["ws://a:1/ws/{channel}?***"]
