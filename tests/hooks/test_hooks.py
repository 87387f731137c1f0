"""Declaring hooks."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.hooks import Denied, Disconnect, Hooks


async def hook(request: Any) -> Any:
    return True


def test_hooks_are_collected_with_their_options() -> None:
    """With and without parentheses; the function stays what it is."""
    hooks = Hooks()
    assert hooks.connect(hook) is hook
    assert hooks.refresh(timeout=1.5)(hook) is hook
    assert hooks.subscribe("room", "")(hook) is hook
    assert hooks.subscribe(concurrency=7)(hook) is hook
    assert hooks.rpc("sum")(hook) is hook
    found = [(each.kind, each.names, each.timeout, each.concurrency) for each in hooks.hooks]
    assert found == [
        ("connect", (), 5.0, 100),
        ("refresh", (), 1.5, 100),
        ("subscribe", ("room", ""), 5.0, 100),
        ("subscribe", (), 5.0, 7),
        ("rpc", ("sum",), 5.0, 100),
    ]
    assert hooks.hooks[2].name == "subscribe hook tests.hooks.test_hooks.hook"


@pytest.mark.parametrize(
    ("declare", "error", "text"),
    [
        (lambda hooks: hooks.connect(print), TypeError, "the connect hook 'print' has to be an `async def`"),
        (lambda hooks: hooks.startup(len), TypeError, "the startup hook 'len' has to be an `async def`"),
        (lambda hooks: hooks.publish(hook), TypeError, r"write @hooks.publish\(\) for all of them"),
        (lambda hooks: hooks.subscribe("a")(lambda request: True), TypeError, "has to be an `async def`"),
        (lambda hooks: [hooks.connect(hook) for _ in range(2)], ValueError, "there is a connect hook already"),
        (
            lambda hooks: [hooks.subscribe("a", name)(hook) for name in "bc"],
            ValueError,
            "there is a subscribe hook for 'a' already",
        ),
        (lambda hooks: [hooks.rpc()(hook) for _ in range(2)], ValueError, "there is a rpc hook already"),
        (lambda hooks: hooks.on()(hook), TypeError, "takes the names of events"),
        (lambda hooks: hooks.on("a")(lambda request: True), TypeError, "has to be an `async def`"),
        (lambda hooks: [hooks.on("a")(hook), hooks.rpc("a")(hook)], ValueError, "there is a rpc hook for 'a' already"),
        (lambda hooks: hooks.connect(timeout=0)(hook), ValueError, "timeout is 0, expected more than 0"),
        (lambda hooks: hooks.connect(timeout=31)(hook), ValueError, "at most 30"),
        (lambda hooks: hooks.rpc(concurrency=0)(hook), ValueError, "concurrency is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_a_hook_is_refused(
    declare: Callable[[Hooks], object], error: type[Exception], text: str
) -> None:
    """Where it is declared, and with its name."""
    with pytest.raises(error, match=text):
        declare(Hooks())


def test_codes_are_those_that_applications_may_use() -> None:
    assert Denied().error == (103, "permission denied", False)
    assert Denied("later", code=400, temporary=True).error == (400, "later", True)
    assert (Disconnect().code, Disconnect(4000, "bye").reason) == (4500, "bye")
    for wrong in (lambda: Denied(code=100), lambda: Disconnect(1000), lambda: Disconnect(5000)):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    with pytest.raises(ValueError, match="123 bytes"):
        Disconnect(4500, "é" * 62)
