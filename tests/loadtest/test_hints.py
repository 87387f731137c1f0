"""What is advised where a server refuses something."""

import errno
import os

import pytest

from gateway_loadtest.planning.plan import Plan, StagePlan
from gateway_loadtest.results.hints import causes_of, hints_for

STAGES = (StagePlan("steady", 10.0),)


def plan(**fields: object) -> Plan:
    made: dict[str, object] = {"scenario": "rooms", "targets": ("ws://a",), "stages": STAGES, "channels": 1}
    return Plan(**{**made, "members": 1, **fields})  # type: ignore[arg-type]  # by name, for the tests below


@pytest.mark.parametrize(
    ("fields", "error", "hint"),
    [
        ({"prefix": "load:"}, "gave up: subscribe to load:0: error 102: unknown channel", "no namespace 'load'"),
        ({"prefix": "$load:"}, "gave up: subscribe to $load:0: error 102: unknown channel", "no namespace 'load'"),
        ({}, "gave up: subscribe to load-0: error 102: unknown channel", "no channel like 'load-0'"),
        ({}, "gave up: subscribe to load-0: error 103: permission denied", "allow_subscribe"),
        ({}, "publish error 103: permission denied", "allow_publish"),
        ({}, "publish error 103: permission denied", "set LOADTEST_TOKEN_SECRET to send tokens"),
        (
            {},
            "gave up: subscribe to load-0: error 103: permission denied",
            "the prefix (--prefix) must name channels that clients may use",
        ),
        ({}, "publish error 111: too many requests", "limits.publishes_per_second"),
        ({}, "gave up: connect error 101: unauthorized", "no token was sent: set LOADTEST_TOKEN_SECRET"),
        ({}, "gave up: closed with 3500 invalid token", "no token was sent: set LOADTEST_TOKEN_SECRET"),
        ({}, "gave up: closed with 3501 bad request", "no token was sent: set LOADTEST_TOKEN_SECRET"),
        ({"token_secret": "s"}, "gave up: closed with 3500 invalid token", "does not accept the tokens"),
    ],
)
def test_a_refusal_has_its_advice(fields: dict[str, object], error: str, hint: str) -> None:
    """Once, however often it was refused."""
    (found,) = hints_for(plan(**fields), [error, error])
    assert hint in found


def test_tokens_are_advised_only_where_none_were_sent() -> None:
    """A client that has one is refused for another reason."""
    (found,) = hints_for(plan(token_secret="s"), ["publish error 103: permission denied"])
    assert "LOADTEST_TOKEN_SECRET" not in found
    assert hints_for(plan(token_secret="s"), ["gave up: closed with 3501 bad request"]) == []


@pytest.mark.parametrize(
    "error", ["Connection refused", "connection lost: 1006", "publish error 100: internal", "others"]
)
def test_other_trouble_has_none(error: str) -> None:
    """A wrong hint is worse than no hint."""
    assert hints_for(plan(), [error]) == []


def test_why_a_target_could_not_be_reached() -> None:
    """Once for each; what has no advice is told as it is."""
    refused = f"connect to a:1: {os.strerror(errno.ECONNREFUSED)}"
    assert causes_of([refused, refused, "connect to b:2: no answer within 10 s", "connection lost: 1006"]) == [
        "nothing listens at a:1: is the server running? --target names another one",
        "b:2: no answer within 10 s",
    ]


def test_other_protocols_have_other_errors() -> None:
    """Their numbers mean something else."""
    assert hints_for(plan(protocol="nats"), ["publish error 103: x"]) == []
