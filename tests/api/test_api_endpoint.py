"""Requests with wrong shapes: each gets its code, moves its counter, and nothing else notices."""

import json
from typing import Any

import pytest

from gateway.api.cluster_methods import Cluster
from gateway.api.methods import UNSERVED
from tests.api.clients import settled
from tests.api.conftest import TRANSPORT, Api
from tests.api.site import KEY, OPEN, Site, running, settings_of
from tests.transports.raw import RawClient

ON_USERS = ("unsubscribe", "disconnect", "refresh")
UNSERVED_ON_USERS: dict[str, dict[str, Any]] = {
    "session": {"session": "s"},
    "label_filter": {"label_filter": {"op": "and"}},
    "all_users": {"all_users": True},
}

PUBLISH = b'{"channel":"news","data":%b}'


def refused(site: Site, api: Api, method: str, body: bytes | dict[str, Any], code: int) -> str:
    """The message of the error, which has this code and is counted once; its status in the error mode tells too."""
    before = site.errors(str(code))
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = api.send(method, sent)
    assert answer.keys() == {"error"}, answer
    assert answer["error"]["code"] == code, answer
    assert site.errors(str(code)) == before + 1
    message: str = answer["error"]["message"]
    return message


@pytest.mark.parametrize("method", ["nothing", "Publish", "publish ", "__init__", "openapi.json"])
def test_unknown_methods_are_104(site: Site, api: Api, method: str) -> None:
    """The message says where to look."""
    assert "/api/openapi.json" in refused(site, api, method, {}, 104)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b'"{}"',
        b'{"channel":"news","data":1}}',
        b'{"channel":"news","data":1,}',
        b"\xef\xbb\xbf" + PUBLISH % b"1",
        (PUBLISH % b"1").decode().encode("utf-16"),
        b"channel=news&data=1",
        b"\0",
        *(PUBLISH % data for data in (b"", b"tru", b"01", b"1.", b"NaN", b"'a'", b'"\\q"', b'"\\u12G4"', b'"\x01"')),
        *(PUBLISH % data for data in (b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'{"\xff":1}')),
        *(PUBLISH % (b"[" * depth + b"]" * depth) for depth in (1_000, 30_000, 1_000_000)),
        PUBLISH % (b"[" * 1_000_000),
        PUBLISH % (b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_json_is_107(site: Site, api: Api, body: bytes) -> None:
    """Inside the payload as well, which nothing else parses before it is in a subscriber's hands."""
    assert refused(site, api, "publish", body, 107).startswith("bad request: ")


@pytest.mark.parametrize("depth", range(960, 1_000))
def test_nesting_is_accepted_or_refused_and_nothing_else(site: Site, api: Api, depth: int) -> None:
    """With line breaks inside, so that the payload is read twice."""
    answer = api.send("publish", PUBLISH % (b"[" * depth + b"\n" + b"]" * depth))
    assert answer == {"result": {}} or answer["error"]["code"] == 107
    assert site.errors("100") == 0


@pytest.mark.parametrize(
    ("method", "body", "mentions"),
    [
        ("publish", {"data": 1}, "channel"),
        ("publish", {"channel": "", "data": 1}, "channel"),
        ("publish", {"channel": None, "data": 1}, "channel"),
        ("publish", {"channel": 7, "data": 1}, "channel"),
        ("publish", {"channel": ["news"], "data": 1}, "channel"),
        ("publish", {"channel": "two words", "data": 1}, "channel"),
        ("publish", {"channel": "ümlaut", "data": 1}, "channel"),
        ("publish", {"channel": "a" * 256, "data": 1}, "channel"),
        ("publish", {"channel": "news"}, "data"),
        ("publish", {"channel": "news", "data": 1, "b64data": "MQ=="}, "b64data"),
        ("publish", {"channel": "news", "b64data": None}, "b64data"),
        ("publish", {"channel": "news", "b64data": "M"}, "b64data"),
        ("publish", {"channel": "news", "b64data": "M Q=="}, "b64data"),
        ("publish", {"channel": "news", "b64data": "_-=="}, "b64data"),
        ("publish", {"channel": "news", "b64data": "ü"}, "b64data"),
        ("publish", {"channel": "news", "data": 1, "tags": {"a": 1}}, "tags"),
        ("publish", {"channel": "news", "data": 1, "tags": ["a"]}, "tags"),
        ("publish", {"channel": "news", "data": 1, "tags": {str(number): "" for number in range(65)}}, "tags"),
        ("publish", {"channel": "news", "data": 1, "idempotency_key": 1}, "idempotency_key"),
        ("publish", {"channel": "news", "data": 1, "idempotency_key": "k" * 257}, "idempotency_key"),
        ("publish", {"channel": "news", "data": 1, "exclude_client": "c" * 256}, "exclude_client"),
        ("publish", {"channel": "news", "data": 1, "skip_history": "yes"}, "skip_history"),
        ("publish", {"channel": "news", "data": 1, "chanel": "news"}, "chanel"),
        ("broadcast", {"data": 1}, "channels"),
        ("broadcast", {"channels": [], "data": 1}, "channels"),
        ("broadcast", {"channels": "news", "data": 1}, "channels"),
        ("broadcast", {"channels": ["news"]}, "data"),
        ("subscribe", {"user": "ada"}, "channel"),
        ("subscribe", {"channel": "news"}, "user"),
        ("subscribe", {"user": "", "channel": "news"}, "user"),
        ("subscribe", {"user": 7, "channel": "news"}, "user"),
        ("subscribe", {"user": "a" * 256, "channel": "news"}, "user"),
        ("subscribe", {"user": "ada", "channel": "two words"}, "channel"),
        ("subscribe", {"user": "ada", "channel": "news", "info": 1, "b64info": "MQ=="}, "b64info"),
        ("subscribe", {"user": "ada", "channel": "news", "data": 1, "b64data": "MQ=="}, "b64data"),
        ("subscribe", {"user": "ada", "channel": "news", "b64info": "?"}, "b64info"),
        ("subscribe", {"user": "ada", "channel": "news", "b64info": "/w=="}, "JSON"),
        ("subscribe", {"user": "ada", "channel": "news", "b64data": "e30gMQ=="}, "JSON"),
        ("subscribe", {"user": "ada", "channel": "news", "expire_at": -1}, "expire_at"),
        ("subscribe", {"user": "ada", "channel": "news", "expire_at": 1.5}, "expire_at"),
        ("subscribe", {"user": "ada", "channel": "news", "expire_at": 2**64}, "expire_at"),
        ("unsubscribe", {"channel": "news"}, "user"),
        ("disconnect", {}, "user"),
        ("disconnect", {"user": "ada", "whitelist": "me"}, "whitelist"),
        ("disconnect", {"user": "ada", "disconnect": 4000}, "disconnect"),
        *(("disconnect", {"user": "ada", "disconnect": {"code": code}}, "code") for code in (-1, 1, 1000, 2999, 5000)),
        ("disconnect", {"user": "ada", "disconnect": {"code": 4000, "reason": "r" * 124}}, "reason"),
        ("disconnect", {"user": "ada", "disconnect": {"code": 4000, "reason": "ü" * 62}}, "reason"),
        ("disconnect", {"user": "ada", "disconnect": {"code": 4000, "reconect": True}}, "reconect"),
        ("disconnect", {"user": "ada", "session": 5}, "session"),
        ("subscribe", {"user": "ada", "channel": "news", "presence": True}, "presence"),
        ("publish", {"channel": "news", "data": 1, "binary": True}, "binary"),
        ("publish", {"channel": "news", "b64data": ""}, "data"),
        ("refresh", {"user": "ada", "expired": 1}, "expired"),
        ("revoke", {}, "jti"),
        ("kick", {"user": "ada"}, "channel"),
        ("kick", {"user": "", "channel": "news"}, "user"),
        ("kick", {"user": "ada", "channel": ""}, "channel"),
        ("kick", {"user": "ada", "channel": "n" * 256}, "channel"),
        ("kick", {"user": "ada", "channel": "two words"}, "channel"),
        ("kick", {"user": "u" * 256, "channel": "news"}, "user"),
        ("kick", {"user": "ada", "channel": "news", "expire_at": 1}, "expire_at"),
        ("revoke", {"user": "ada", "jti": "1"}, "jti"),
        ("revoke", {"jti": "j" * 256}, "jti"),
        ("channels", {"limit": -1}, "limit"),
        ("channels", {"limit": 10_001}, "limit"),
        ("channels", {"pattern": "*" * 256}, "pattern"),
        ("info", {"all": True}, "all"),
        ("batch", {}, "commands"),
        ("batch", {"commands": []}, "commands"),
        ("batch", {"commands": {}}, "commands"),
        ("batch", {"commands": "[]"}, "commands"),
        ("batch", {"commands": None}, "commands"),
        ("batch", {"commands": [{"info": {}}], "comands": []}, "comands"),
        ("batch", {"commands": [{"info": {}}], "parallel": "yes"}, "parallel"),
    ],
)
def test_wrong_shapes_are_107(site: Site, api: Api, method: str, body: dict[str, Any], mentions: str) -> None:
    """The message names the field."""
    message = refused(site, api, method, body, 107)
    assert message.startswith("bad request: ")
    assert mentions in message


@pytest.mark.parametrize("method", ["publish", "subscribe"])
@pytest.mark.parametrize("channel", ["nowhere:room", "$nowhere:room", ":room"])
def test_channels_of_unknown_namespaces_are_102(site: Site, api: Api, method: str, channel: str) -> None:
    """The message names the setting that would make it known."""
    body = {"channel": channel, "data": 1, **({"user": "ada"} if method == "subscribe" else {})}
    assert "namespaces." in refused(site, api, method, body, 102)


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("publish", {"channel": "news", "data": 1, "delta": True}, "delta"),
        ("subscribe", {"user": "ada", "channel": "news", "override": {"presence": {"value": False}}}, "override"),
        *((name, {"user": "ada", **more}, field) for name in ON_USERS for field, more in UNSERVED_ON_USERS.items()),
        ("subscribe", {"user": "ada", "channel": "news", "session": "s"}, "session"),
        ("refresh", {"user": "ada", "info": {}}, "info"),
        ("disconnect", {"user": "ada", "disconnect": {"code": 4000, "reconnect": True}}, "disconnect.reconnect"),
    ],
)
def test_fields_that_only_centrifugo_has_are_108(
    site: Site, api: Api, method: str, body: dict[str, Any], field: str
) -> None:
    """A client that relies on them must not believe that they were heeded; the message names them. In batches too."""
    assert f"field {field}" in refused(site, api, method, body, 108)
    (reply,) = api.post("batch", {"commands": [{method: body}]})["replies"]
    assert reply["error"]["code"] == 108


@pytest.mark.parametrize("method", sorted(UNSERVED))
def test_methods_that_only_centrifugo_has_are_108(site: Site, api: Api, method: str) -> None:
    """By name, whatever the request; in batches too, where a name that nobody has is 104."""
    assert f"method {method}" in refused(site, api, method, b"{", 108)
    replies = api.post("batch", {"commands": [{method: {"key": 1}}, {method + "s": {}}]})["replies"]
    assert [reply["error"]["code"] for reply in replies] == [108, 104]


def test_broadcasts_of_deltas_are_answered_by_channel() -> None:
    """A channel that has them takes `delta`, since all its publications may be sent as deltas; the others are 108."""
    with running(settings_of(namespaces={"d": {**OPEN, "delta": True}})) as site, Api(site) as api:
        assert api.call("publish", channel="d:a", data=1, delta=True) == {}
        responses = api.call("broadcast", channels=["d:a", "news"], data=1, delta=True)["responses"]
        assert [response.get("error", {}).get("code") for response in responses] == [None, 108]


def test_versions_need_a_history(site: Site, api: Api) -> None:
    """In a batch too."""
    body = {"channel": "news", "data": 1, "version": 1}
    assert "field version" in refused(site, api, "publish", body, 108)
    replies = api.post("batch", {"commands": [{"publish": body}]})["replies"]
    assert replies[0]["error"]["code"] == 108


DEEP = [json.loads("[" * 200 + "]" * 200), "x" * 65_535]


@pytest.mark.parametrize(
    "over", [{"data": "x" * 65_535}, {"data": DEEP}, {"b64data": "eHh4" * 21_846}, {"tags": {"t": "x" * 65_536}}]
)
def test_too_large_publications_are_107(site: Site, api: Api, over: dict[str, Any]) -> None:
    """limits.message_size counts the payload as it is delivered, quotes included, and the tags; before all else."""
    message = refused(
        site,
        api,
        "publish",
        {"channel": "news", "data": "", **over} if "tags" in over else {"channel": "news", **over},
        107,
    )
    assert "limits.message_size" in message
    assert api.post("publish", {"channel": "news", "data": "x" * 65_534}) == {"result": {}}


def test_too_large_infos_are_107(site: Site, api: Api) -> None:
    """They go out with every publication of the subscribed connection."""
    for field in ("info", "data"):
        for value in ("x" * 65_535, DEEP):
            body = {"user": "ada", "channel": "news", field: value}
            assert "limits.message_size" in refused(site, api, "subscribe", body, 107)


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("publish", b"{", 400),
        ("publish", PUBLISH % b'"\xff"', 400),
        ("publish", b'{"channel":"nowhere:room","data":1}', 404),
        ("nothing", b"{}", 404),
        ("presence", b"{}", 400),
        ("subscribe", b'{"user":"ada","channel":"news","expire_at":1}', 400),
        ("info", b"{}", 200),
    ],
)
def test_errors_have_http_statuses_on_request(api: Api, method: str, body: bytes, status: int) -> None:
    """And code and message at the top, as with Centrifugo. Otherwise a 200 with `error`, as clients expect."""
    silent = api.http.post(f"/api/{method}", content=body)
    telling = api.http.post(f"/api/{method}", content=body, headers=TRANSPORT)
    assert (silent.status_code, telling.status_code) == (200, status)
    if status != 200:
        assert api.checked(method, body, silent) == {"error": api.checked(method, body, telling)}
    other = api.http.post(f"/api/{method}", content=body, headers={"X-Centrifugo-Error-Mode": "other"})
    assert other.status_code == 200


def test_paths_beside_the_methods_are_not_found(api: Api) -> None:
    """Nothing hides below /api, and nothing redirects with the client's key to where its Host header says."""
    for path in ("/api/", "/api/publish/", "/api/a/b", "/API/publish"):
        response = api.http.post(path, json={"channel": "news", "data": 1}, follow_redirects=False)
        assert response.status_code == 404, path


def test_a_client_that_leaves_in_the_middle_is_forgotten(site: Site) -> None:
    """No answer, no error, nothing published."""
    published = site.metric("gateway_published_total")
    host, _, port = site.public.rpartition(":")
    head = f"POST /api/publish HTTP/1.1\r\nHost: test\r\nX-API-Key: {KEY}\r\nContent-Length: 100\r\n\r\n"
    with RawClient((host, int(port))) as client:
        client.send(head.encode() + PUBLISH % b"1")
    with settled(site, "after"):
        assert site.metric("gateway_published_total") == published + 1
    assert site.errors("100") == 0


def test_a_body_in_chunks_is_one_body(site: Site, api: Api) -> None:
    """Cut anywhere, in the middle of a character too."""
    body = PUBLISH % '"ü"'.encode()
    with settled(site, "news") as client:
        response = api.http.post("/api/publish", content=iter([bytes([byte]) for byte in body]))
        assert api.checked("publish", body, response) == {"result": {}}
        assert client.recv(10) == '"ü"'


def test_a_bug_is_100_without_details(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the traceback, the caller has a code after which it may try again, and other commands go on."""

    async def broken(*args: Any) -> None:
        raise ZeroDivisionError("the secret of the tests")

    monkeypatch.setattr(Cluster, "info", broken)
    error = {"code": 100, "message": "internal server error"}
    with running(settings_of()) as site, Api(site) as api:
        assert api.post("info", {}) == {"error": error}
        response = api.http.post("/api/info", json={}, headers=TRANSPORT)
        assert (response.status_code, response.json()) == (500, error)
        publish = {"publish": {"channel": "news", "data": 1}}
        replies = api.post("batch", {"commands": [publish, {"info": {}}, publish]})["replies"]
        assert replies == [{"publish": {}}, {"error": error}, {"publish": {}}]
        assert site.errors("100") == 3
    assert "ZeroDivisionError" in caplog.text
