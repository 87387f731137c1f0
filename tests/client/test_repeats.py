"""What may be asked twice."""

from typing import Any

import pytest

from gateway.api.request_shapes import BatchRequest
from gateway.client import commands
from gateway.client.commands import Command
from gateway.client.repeats import is_repeatable, with_keys

REPEATABLE: list[Command[Any]] = [
    commands.publish("a", 1, idempotency_key="k"),
    commands.broadcast(["a"], 1, idempotency_key="k"),
    commands.subscribe("u", "a"),
    commands.unsubscribe("u"),
    commands.disconnect("u"),
    commands.refresh("u"),
    commands.revoke(user="u"),
    commands.kick("u", "a"),
    commands.history("a"),
    commands.history_remove("a"),
    commands.latest("a"),
    commands.latest_remove("a"),
    commands.presence("a"),
    commands.presence_stats("a"),
    commands.channels(),
    commands.info(),
    commands.drain("n"),
]
ONCE: list[Command[Any]] = [
    commands.publish("a", 1, idempotency_key=""),
    commands.broadcast(["a"], 1, idempotency_key=""),
    commands.reload(),
]


@pytest.mark.parametrize("command", REPEATABLE, ids=lambda command: command.method)
def test_these_may_be_repeated(command: Command[Any]) -> None:
    """Also in a batch."""
    assert is_repeatable(command.request)
    assert is_repeatable(commands.batch([command, commands.info()]).request)
    assert with_keys(command.request) == command.request


@pytest.mark.parametrize("command", ONCE, ids=lambda command: command.method)
def test_these_may_not(command: Command[Any]) -> None:
    """Nor a batch with one; an empty key stays empty."""
    assert not is_repeatable(with_keys(command.request))
    assert not is_repeatable(with_keys(commands.batch([commands.info(), command]).request))


def test_publications_get_a_key_each() -> None:
    """A fresh one for each call, although a command can be used again."""
    command = commands.publish("a", 1)
    request = commands.batch([command, command, commands.broadcast(["a"], 1)]).request
    keyed = with_keys(request)
    assert isinstance(keyed, BatchRequest)
    keys = [getattr(each.publish or each.broadcast, "idempotency_key", "") for each in keyed.commands]
    assert len({*keys, getattr(with_keys(command.request), "idempotency_key", "")}) == 4
    assert is_repeatable(keyed)
    assert not is_repeatable(request)
