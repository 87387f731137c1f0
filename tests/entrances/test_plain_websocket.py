"""Where plain connections may put their token (over real sockets: tests/api/test_plain_route.py)."""

from typing import Any

import pytest

from gateway.entrances.plain_websocket import PLAIN_WEBSOCKET
from gateway.messages import Connect
from gateway.transports import handshake
from gateway.transports.handshake import Handshake

SCOPE = {"path": "/ws/a", "path_params": {"channel": "a"}}


def token_and_subprotocol(scope: dict[str, Any], cookie: str) -> tuple[str, str | None]:
    """The token and subprotocol that the entrance finds."""
    welcome = PLAIN_WEBSOCKET.welcome(Handshake(scope, ()), cookie)
    connect = welcome.initial[0]
    assert isinstance(connect, Connect)
    return connect.token, welcome.subprotocol


@pytest.mark.parametrize(
    ("subprotocols", "headers", "query", "found"),
    [
        ([], [], "", ("", None)),
        (["token", "t"], [(b"authorization", b"Bearer a")], "token=q", ("t", "token")),
        ([], [(b"authorization", b"bearer   a "), (b"cookie", b"sid=c")], "token=q", ("a", None)),
        ([], [(b"authorization", b"Bearer "), (b"cookie", b"sid=c")], "token=q", ("c", None)),
        ([], [(b"cookie", b"a=b"), (b"cookie", b'sid="c"')], "token=q", ("c", None)),
        ([], [(b"cookie", b"sid=")], "token=q", ("q", None)),
        ([], [(b"cookie", b'a="' + b"\\" * 15_000 + b'"; sid=c; sid=d')], "", ("c", None)),
        ([], [(b"cookie", b'sid="' + b"\\" * 15_000 + b'"')], "", ("\\" * 15_000, None)),
        ([], [(b"cookie", b"\xff=;;=; sid")], "token=a%2Bb&x=y", ("a+b", None)),
        ([], [(b"cookie", b"xsid=a;sid=b")], "", ("b", None)),
        ([], [(b"cookie", b"a=sid=b; asid=c")], "xtoken=a&a=token=b&%74oken=c", ("", None)),
        ([], [], "a=b&token=+%c3%a4&c=d", (" \u00e4", None)),
        ([], [], "token=a&token=b", ("b", None)),
        ([], [], "token", ("", None)),
        ([], [], "%ff&=&&;token=%", ("", None)),
    ],
)
def test_tokens_of_plain_connections(
    subprotocols: list[str], headers: list[tuple[bytes, bytes]], query: str, found: tuple[str, str | None]
) -> None:
    """The first place that holds one wins; anything else that is sent is no error."""
    scope = {
        "path": "/ws/a",
        "subprotocols": subprotocols,
        "path_params": {"channel": "a"},
        "headers": headers,
        "query_string": query.encode(),
    }
    assert token_and_subprotocol(scope, "sid") == found


def test_only_the_parameter_that_is_wanted_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding a query of 16 KB of escapes took 20 ms."""
    decoded: list[str] = []

    def unquote(text: str) -> str:
        decoded.append(text)
        return text

    monkeypatch.setattr(handshake, "unquote_plus", unquote)
    scope = {
        "path": "/ws/a",
        "path_params": {"channel": "a"},
        "headers": [],
        "query_string": b"%a&" * 3000 + b"token=b&" + b"%a=%a&" * 3000,
    }
    assert token_and_subprotocol(scope, "sid") == ("b", None)
    assert decoded == ["b"]


def test_no_cookie_is_looked_at_without_the_setting() -> None:
    """A cookie with that name may belong to another application."""
    scope = {
        "path": "/ws/a",
        "path_params": {"channel": "a"},
        "headers": [(b"cookie", b"=c; sid=c")],
        "query_string": b"",
    }
    assert token_and_subprotocol(scope, "") == ("", None)
