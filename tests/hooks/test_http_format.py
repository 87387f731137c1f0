"""Requests and replies in the format of Centrifugo's proxy."""

import json
from typing import Any

import pytest

from gateway.errors import CloseCode, Disconnect, ErrorCode, RequestError
from gateway.hooks.decisions import Accepted, Admitted, Allowed, Extended, Opened
from gateway.hooks.events import META_BYTES
from gateway.hooks.http_format import decode, encode, signature
from gateway.hooks.questions import (
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RpcRequest,
    SubRefreshRequest,
    SubscribeRequest,
    chosen,
)
from gateway.messages import Kind

CLIENT = "2ea14b3a-6596-4d82-8160-d670ec1381e0"
META = {"k": [1, 2]}


class Seen:
    """A handshake."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"headers": []}

    def header(self, name: str) -> str:
        return ""

    cookie = parameter = header


def who(**fields: Any) -> dict[str, Any]:
    return {
        "client": CLIENT,
        "user": "ann",
        "address": "",
        "protocol": "centrifuge",
        "transport": "websocket",
        "meta": META,
        **fields,
    }


# What Centrifugo 6.9.1 sent for the same commands, with include_connection_meta.
_COMMON = f'"client":"{CLIENT}","transport":"websocket","protocol":"json","encoding":"json"'
GOLDEN: list[tuple[Request, str]] = [
    (
        ConnectRequest(
            **who(user="", meta=None),
            handshake=Seen(),
            raw=b'{"hi":  1}',
            name="js",
            version="1.2",
            channels=("room:7",),
        ),
        f'{{{_COMMON},"data":{{"hi":1}},"name":"js","version":"1.2","channels":["room:7"]}}',
    ),
    (ConnectRequest(**who(user="", meta=None), handshake=Seen()), f"{{{_COMMON}}}"),
    (
        SubscribeRequest(**who(), channel="room:1", raw=b'{"s":1}'),
        f'{{{_COMMON},"user":"ann","channel":"room:1","meta":{{"k":[1,2]}},"data":{{"s":1}}}}',
    ),
    (
        SubscribeRequest(**who(user=""), channel="room:1"),
        f'{{{_COMMON},"user":"","channel":"room:1","meta":{{"k":[1,2]}}}}',
    ),
    (
        PublishRequest(**who(), channel="room:1", raw=b'{"p": 1}'),
        f'{{{_COMMON},"user":"ann","channel":"room:1","data":{{"p":1}},"meta":{{"k":[1,2]}}}}',
    ),
    (
        RpcRequest(**who(), method="m", raw=b'{"r": 1}'),
        f'{{{_COMMON},"user":"ann","method":"m","data":{{"r":1}},"meta":{{"k":[1,2]}}}}',
    ),
    (RpcRequest(**who(), method="n"), f'{{{_COMMON},"user":"ann","method":"n","meta":{{"k":[1,2]}}}}'),
    (RefreshRequest(**who()), f'{{{_COMMON},"user":"ann","meta":{{"k":[1,2]}}}}'),
    (
        SubRefreshRequest(**who(user=""), channel="room:1"),
        f'{{{_COMMON},"user":"","channel":"room:1","meta":{{"k":[1,2]}}}}',
    ),
]


@pytest.mark.parametrize(("request_", "golden"), GOLDEN)
def test_requests_are_those_of_centrifugo(request_: Request, golden: str) -> None:
    assert json.loads(encode(request_)) == json.loads(golden)


def test_what_centrifugo_does_not_send() -> None:
    """The client's address, the user of its token, and payloads of plain connections."""
    asked = json.loads(encode(ConnectRequest(**who(address="192.0.2.1", meta=None), handshake=Seen())))
    assert (asked["address"], asked["user"]) == ("192.0.2.1", "ann")
    text = json.loads(encode(PublishRequest(**who(protocol="plain"), channel="c", raw=b'"\xc3\xa4', kind=Kind.TEXT)))
    assert (text["protocol"], text["encoding"], text["data"]) == ("plain", "json", '"ä')
    binary = json.loads(encode(PublishRequest(**who(protocol="plain"), channel="c", raw=b"\0\xff", kind=Kind.BINARY)))
    assert (binary["encoding"], binary["b64data"], "data" in binary) == ("binary", "AP8=", False)


def test_meta_of_a_hook_in_python_needs_a_json() -> None:
    with pytest.raises(TypeError):
        encode(RefreshRequest(**who(meta=object())))


def test_the_signature_is_that_of_the_documentation() -> None:
    """openssl: printf '7.{}' | openssl dgst -sha256 -hmac key"""
    digest = "77bc83bd1f40422311e47918b203449aecf84b02c1568bb1b570ac2a474cc2d8"
    assert signature(b"key", 7, b"{}") == f"t=7,v1={digest}"


NONE = Admitted(None, None, b"", None, {}, None)


@pytest.mark.parametrize(
    ("kind", "result", "decision"),
    [
        ("connect", {}, NONE),
        ("connect", {"user": None, "info": None, "channels": None, "subs": None, "meta": None, "caps": []}, NONE),
        (
            "connect",
            {
                "user": "ann",
                "expire_at": 7,
                "info": {"n": 1},
                "b64data": "WzFd",
                "channels": ["a"],
                "subs": {"b": {"info": 1, "data": [2]}},
                "meta": META,
                "unknown": 1,
            },
            Admitted("ann", b'{"n":1}', b"[1]", 7, {"a": Opened(b"", b""), "b": Opened(b"1", b"[2]")}, META),
        ),
        ("connect", {"user": ""}, NONE._replace(user="")),
        ("refresh", {"expire_at": 7}, Extended(7)),
        ("refresh", {"expire_at": 7, "info": {"n": 2}}, Extended(7, b'{"n":2}')),
        ("subscribe", {}, Allowed(b"", b"", 0)),
        ("subscribe", {"info": 1, "data": "x", "expire_at": 9, "override": {}}, Allowed(b"1", b'"x"', 9)),
        ("sub_refresh", {"expired": False, "expire_at": 9, "b64info": "MQ=="}, Extended(9, b"1")),
        ("publish", {}, Accepted(None, Kind.JSON, None, "", skip_history=False)),
        (
            "publish",
            {"data": {"x": 1}, "tags": {"a": "b"}, "idempotency_key": "k", "skip_history": True},
            Accepted(b'{"x":1}', Kind.JSON, {"a": "b"}, "k", skip_history=True),
        ),
        ("publish", {"b64data": "AP8="}, Accepted(b"\0\xff", Kind.BINARY, None, "", skip_history=False)),
        ("rpc", {"data": [1]}, b"[1]"),
        ("rpc", {"b64data": "WzFd"}, b"[1]"),
        ("rpc", {}, b"null"),
    ],
)
def test_results(kind: Any, result: dict[str, Any], decision: Any) -> None:
    assert decode(kind, json.dumps({"result": result}, separators=(",", ":")).encode()) == decision


def test_errors_and_disconnects() -> None:
    denied = decode("rpc", b'{"error":{"code":1000,"message":"later","temporary":true}}')
    assert isinstance(denied, RequestError)
    assert denied.error == ErrorCode(1000, "later", temporary=True)
    closed = decode("connect", b'{"result":{"user":"ann"},"error":null,"disconnect":{"code":4501,"reason":"banned"}}')
    assert isinstance(closed, Disconnect)
    assert closed.code == CloseCode(4501, "banned")


@pytest.mark.parametrize("kind", ["refresh", "sub_refresh"])
def test_what_has_expired_is_not_extended(kind: Any) -> None:
    assert isinstance(decode(kind, b'{"result":{"expired":true,"expire_at":7}}'), RequestError)


@pytest.mark.parametrize(
    ("kind", "result", "field"),
    [
        ("connect", {"caps": [{"channels": ["*"]}]}, "caps"),
        ("connect", {"labels": {"a": "b"}}, "labels"),
        ("connect", {"subs": {"a": {"override": {"presence": {"value": True}}}}}, "override"),
        ("connect", {"subs": {"a": {"expire_at": 7}}}, "expire_at"),
        ("refresh", {"meta": {"a": 1}}, "meta"),
        ("subscribe", {"allow": ["pub"]}, "allow"),
        ("publish", {"version": 3}, "version"),
        ("publish", {"delta": True}, "delta"),
    ],
)
def test_what_would_be_lost_is_an_error(kind: Any, result: dict[str, Any], field: str) -> None:
    """The backend would believe that clients get, or may do, something else."""
    with pytest.raises(ValueError, match=f"{field}, which the gateway does not support"):
        decode(kind, json.dumps({"result": result}).encode())


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b'"ok"',
        b"<html>",
        b'{"result":1}',
        b'{"result":{"user":7}}',
        b'{"result":{"user":"%b"}}' % (b"a" * 256),
        b'{"result":{"expire_at":"soon"}}',
        b'{"result":{"expire_at":-1}}',
        b'{"result":{"channels":"a"}}',
        b'{"result":{"channels":[1]}}',
        b'{"result":{"info":\xff}}',
        b'{"result":{"info":"\xff"}}',
        b'{"result":{"b64info":"eA=="}}',
        b'{"result":{"b64info":"%"}}',
        b'{"result":{"info":%b}}' % (b"[" * 5000 + b"]" * 5000),
        b'{"result":{"unknown":%b}}' % (b"[" * 5000 + b"]" * 5000),
        b'{"result":{"meta":%b}}' % (b"[" * 200 + b"]" * 200),
        b'{"result":{"meta":"%b"}}' % (b"a" * META_BYTES),
        b'{"error":{}}',
        b'{"error":{"code":0}}',
        b'{"error":{"code":2000}}',
        b'{"error":{"code":1000,"message":"%b"}}' % (b"a" * 2000),
        b'{"disconnect":{"code":1006}}',
        b'{"disconnect":{"code":5000}}',
        b'{"disconnect":{"code":4000,"reason":"%b"}}' % (b"a" * 124),
    ],
)
def test_what_is_no_reply(reply: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode("connect", reply)


def test_json_goes_on_in_one_line_and_whole() -> None:
    """Line breaks and halves of characters would break what is spliced together of it."""
    assert decode("rpc", b'{"result":{"data":{"a":\r\n"\\ud800"}}}') == b'{"a":  "\\ufffd"}'


def test_headers_are_chosen_and_joined() -> None:
    names = frozenset({b"cookie", b"x-a", b"x-b", b"x-c"})
    sent = [
        (b"cookie", b"a=1"),
        (b"x-a", b"1"),
        (b"host", b"h"),
        (b"cookie", b"b=2"),
        (b"x-a", b"2"),
        (b"x-b", b"\x0b"),
    ]
    assert chosen(sent, names) == ((b"cookie", b"a=1; b=2"), (b"x-a", b"1, 2"))
    assert chosen(sent, frozenset()) == ()
