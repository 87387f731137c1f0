"""Batches: many commands in one request."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.api import routes
from gateway.api.methods import Methods
from gateway.channels import Channels
from gateway.errors import INVALID_TOKEN
from gateway.tasks import end_task
from gateway.tokens import connection_token
from tests.api.clients import close_of, native, plain, settled
from tests.api.conftest import Api
from tests.api.site import KEY, SECRET, Site, running, settings_of
from tests.servers import valkey_server


def publish(channel: str, data: Any, **more: Any) -> dict[str, Any]:
    return {"publish": {"channel": channel, "data": data, **more}}


def batch(api: Api, *commands: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The replies; a batch answers at the top level, without `result`."""
    answer = api.post("batch", {"commands": commands, **more})
    assert answer.keys() == {"replies"}, answer
    replies: list[dict[str, Any]] = answer["replies"]
    return replies


@pytest.fixture(scope="module")
def small() -> Iterator[Site]:
    """A node that takes three commands, or channels, at once."""
    with running(settings_of(api={"keys": [KEY], "max_batch": 3, "max_body": 1_000})) as node:
        yield node


@pytest.fixture(scope="module")
def redis_site() -> Iterator[Site]:
    """A node behind a real server, with 2 MiB for what is under way."""
    with valkey_server() as server:
        redis = {"url": server.unix_url, "pending_limit": 2 * 1024 * 1024}
        with running(settings_of(redis=redis)) as node:
            yield node


@pytest.mark.parametrize("parallel", [False, True])
def test_publishes_keep_their_order(site: Site, api: Api, parallel: bool) -> None:
    """In each channel, in one batch and over several."""
    with settled(site, "a") as one, settled(site, "b") as other:
        for start in (0, 500):
            commands = [publish(name, number) for number in range(start, start + 500) for name in ("a", "b")]
            assert batch(api, *commands, parallel=parallel) == [{"publish": {}}] * 1_000
        for client in (one, other):
            assert [client.recv(10) for _ in range(1_000)] == [str(number) for number in range(1_000)]


def test_commands_wait_for_those_before_them(site: Site, api: Api) -> None:
    """A publish before a subscribe does not reach the user, one behind it does; the same around an unsubscribe."""
    with native(site, "ada") as ada:
        subscribe = {"subscribe": {"user": "ada", "channel": "news", "data": {"welcome": True}}}
        unsubscribe = {"unsubscribe": {"user": "ada", "channel": "news"}}
        replies = batch(
            api,
            publish("news", "too early"),
            subscribe,
            publish("news", 1),
            publish("news", 2),
            unsubscribe,
            publish("news", "too late"),
            {"channels": {}},
            {"info": {}},
        )
        assert [list(reply) for reply in replies] == [
            *(["publish"], ["subscribe"], ["publish"], ["publish"], ["unsubscribe"]),
            *(["publish"], ["channels"], ["info"]),
        ]
        assert ada.push()["subscribe"] == {"data": {"welcome": True}}
        assert [ada.publication()["data"] for _ in range(2)] == [1, 2]
        assert ada.push()["unsubscribe"]["code"] == 2000


def test_what_fails_does_not_stop_the_others(site: Site, api: Api) -> None:
    """Each has a reply in its place, and is counted."""
    before = {code: site.errors(code) for code in ("102", "107", "108", "110")}
    with settled(site, "news") as client:
        replies = batch(
            api,
            publish("nowhere:room", 1),
            publish("news", 1),
            publish("news", "x" * 70_000),
            {"broadcast": {"channels": ["news", "nowhere:room"], "data": 2}},
            {"disconnect": {"user": "nobody", "disconnect": {"code": 1000}}},
            {"subscribe": {"user": "nobody", "channel": "news", "expire_at": 1}},
            {"revoke": {}},
            publish("news", 3, version=1),
            publish("news", 4),
        )
        codes = [reply.get("error", {}).get("code") for reply in replies]
        assert codes == [102, None, 107, None, 107, 110, 107, 108, None]
        responses = replies[3]["broadcast"]["responses"]
        assert [list(response) for response in responses] == [["result"], ["error"]]
        assert [client.recv(10) for _ in range(3)] == ["1", "2", "4"]
    assert {code: site.errors(code) - count for code, count in before.items()} == {
        "102": 2,
        "107": 3,
        "108": 1,
        "110": 1,
    }


MALFORMED: list[Any] = [
    {"publish": {"channel": 5, "data": 1}},
    {"publish": {"channel": "news", "data": 1, "chanel": "news"}},
    {"publish": {"data": 1}},
    {"publish": []},
    {"publish": None},
    {"channels": {"limit": -1}},
    {"info": {}, "channels": {}},
    {"info": {}, "nothing": {}},
    {},
]


@pytest.mark.parametrize("wrong", MALFORMED, ids=repr)
def test_a_malformed_command_does_not_stop_the_others(site: Site, api: Api, wrong: Any) -> None:
    """It is answered with 107 in its place, and counted; those around it are carried out, in their order."""
    before = site.errors("107")
    with settled(site, "news") as client:
        replies = batch(api, publish("news", 1), wrong, publish("news", 2), {"presence": {"channel": "news"}})
        assert [list(reply) for reply in replies] == [["publish"], ["error"], ["publish"], ["error"]]
        assert [reply.get("error", {}).get("code") for reply in replies] == [None, 107, None, 108]
        assert [client.recv(10) for _ in range(2)] == ["1", "2"]
    assert site.errors("107") == before + 1


def test_a_batch_is_no_command(api: Api) -> None:
    """Batches do not hold batches; the message of an error says what is wrong with the command itself."""
    replies = batch(api, {"batch": {"commands": [{"info": {}}]}}, {"publish": {"channel": "news", "data": 1, "tag": 1}})
    assert replies[0]["error"]["code"] == 104
    assert "`tag`" in replies[1]["error"]["message"]


@pytest.mark.parametrize("entry", [None, 7, [], "publish"], ids=repr)
def test_an_entry_that_is_no_object_refuses_the_batch(site: Site, api: Api, entry: Any) -> None:
    """It is no command; nothing is carried out."""
    with settled(site, "news") as client:
        code, message = api.error("batch", commands=[publish("news", 1), entry])
        assert (code, "$.commands[1]" in message) == (107, True)
        client.send("end")
        assert client.recv(10) == "end"


def test_half_a_character_in_a_batch_with_a_malformed_command_is_replaced(site: Site, api: Api) -> None:
    """As in any other request."""
    body = rb'{"commands":[{"nothing":{}},{"publish":{"channel":"cut","data":"\ud83d"}}]}'
    with settled(site, "cut") as client:
        replies = api.send("batch", body)["replies"]
        assert [list(reply) for reply in replies] == [["error"], ["publish"]]
        assert client.recv(10) == r'"\ufffd"'


def test_each_publish_has_its_own_options(site: Site, api: Api) -> None:
    """Idempotency keys, tags, excluded connections, binary."""
    with native(site) as one, settled(site, "mixed") as other:
        one.subscribe("mixed")
        batch(
            api,
            publish("mixed", 1, idempotency_key="k"),
            publish("mixed", 2, idempotency_key="k"),
            publish("mixed", 3, tags={"a": "b"}),
            publish("mixed", 4, exclude_client=one.id),
            {"publish": {"channel": "mixed", "b64data": "/w=="}},
        )
        assert [one.publication() for _ in range(3)] == [
            {"data": 1},
            {"data": 3, "tags": {"a": "b"}},
            {"data": {"base64": "/w=="}},
        ]
        assert [other.recv(10) for _ in range(4)] == ["1", "3", "4", b"\xff"]


def test_too_many_commands_or_channels_are_refused_whole(small: Site) -> None:
    """Nothing is carried out; the message names the setting."""
    with Api(small) as api, settled(small, "news") as client:
        too_many = [publish("news", number) for number in range(4)]
        assert "api.max_batch" in api.error("batch", commands=too_many)[1]
        assert "api.max_batch" in api.error("broadcast", channels=["news"] * 4, data=0)[1]
        replies = batch(api, {"broadcast": {"channels": ["news"] * 4, "data": 0}}, publish("news", "end"))
        assert replies[0]["error"]["code"] == 107
        assert client.recv(10) == '"end"'
        assert len(batch(api, *too_many[:3])) == 3
        assert small.errors("107") == 3


def test_the_channels_of_all_broadcasts_in_a_batch_count_together(small: Site) -> None:
    """Those that would have too many fail; a smaller one, and other commands, still have room."""
    with Api(small) as api:
        commands = [{"broadcast": {"channels": ["news"] * count, "data": 0}} for count in (2, 2, 1)]
        replies = batch(api, *commands)
        assert ["broadcast" in reply for reply in replies] == [True, False, True]
        assert "api.max_batch" in replies[1]["error"]["message"]
        assert batch(api, {"broadcast": {"channels": ["news"] * 3, "data": 0}}, publish("news", 1))[1] == {
            "publish": {}
        }
        assert "info" in batch(api, {"broadcast": {"channels": ["news"] * 3, "data": 0}}, {"info": {}})[1]


def test_a_body_that_is_too_large_is_413(small: Site) -> None:
    """api.max_body, on both listeners; the answer has the shape of all errors."""
    for internal in (False, True):
        with Api(small, internal=internal) as api:
            content = json.dumps({"channel": "news", "data": "x" * 1_000}).encode()
            response = api.http.post("/api/publish", content=content)
            assert response.status_code == 413
            assert api.checked("publish", content, response)["error"]["code"] == 413


def methods_of(site: Site) -> Methods:
    """The methods of its API, to be called in its loop."""
    gateway = site.gateway
    channels, administration = Channels(gateway.settings), gateway.administration
    metrics = gateway.metrics
    return routes.Api(gateway.messaging, administration, channels, gateway.settings, metrics, lambda scope: "").methods


def few(names: list[str]) -> list[dict[str, Any]]:
    """Broadcasts that are each too small to be cut."""
    return [{"broadcast": {"channels": names[at : at + 50], "data": 1}} for at in range(0, len(names), 50)]


@pytest.mark.parametrize("method", ["batch", "broadcast", "broadcasts", "refused", "malformed"])
def test_the_largest_requests_are_carried_out_in_slices(site: Site, method: str) -> None:
    """Others get a turn of the loop after every hundred publishes."""
    names = [f"many:{number}" for number in range(10_000)]
    requests: dict[str, dict[str, Any]] = {
        "batch": {"commands": [publish(name, 1) for name in names]},
        "broadcast": {"channels": names, "data": 1},
        "broadcasts": {"commands": few(names)},
        "refused": {"commands": [{"presence": {"channel": name}} for name in names]},
        "malformed": {"commands": [{"presence": {"channel": name, "chanel": 1}} for name in names]},
    }
    body = json.dumps(requests[method]).encode()
    method = "broadcast" if method == "broadcast" else "batch"
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def carry_out() -> None:
        methods = methods_of(site)
        decoded = methods.decode(method, body)
        counting = asyncio.create_task(count_turns())
        await methods.call(method, decoded)
        counting.cancel()

    site.run(carry_out())
    assert turns >= 99


def test_a_batch_ends_with_its_client(site: Site, api: Api) -> None:
    """What it has not begun when the client leaves is not carried out."""
    commands = [publish("left", "first"), *[{"presence": {"channel": "left"}}] * 1_000, publish("left", "last")]
    lines = b"\n".join(
        json.dumps({"method": name, "params": each[name]}).encode() for each in commands for name in each
    )
    bodies = {"/api/batch": json.dumps({"commands": commands}).encode(), "/api": lines}

    async def carry_out(path: str, body: bytes) -> list[Any]:
        # The body, and then the end of the connection.
        messages = [{"type": "http.request", "body": body}, {"type": "http.request"}, {"type": "http.disconnect"}]
        answers: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            answers.append(message)

        headers = [(b"x-api-key", KEY.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
        await site.gateway.public(scope, receive, send)
        return answers

    with settled(site, "left") as client:
        for path, body in bodies.items():
            assert site.run(carry_out(path, body)) == []
        client.send("end")
        assert {*iter(lambda: client.recv(10), "end")} <= {'"first"'}


def test_the_command_that_is_carried_out_then_is_not_cut(redis_site: Site) -> None:
    """A revocation takes effect, though its client left before the answer."""
    body = json.dumps({"commands": [{"revoke": {"jti": "left"}}, {"publish": {"channel": "left", "data": 1}}]}).encode()

    async def carry_out() -> None:
        methods = methods_of(redis_site)
        working = asyncio.ensure_future(methods.call("batch", methods.decode("batch", body)))
        await asyncio.sleep(0)
        await end_task(working)

    redis_site.run(carry_out())
    with Api(redis_site) as api:
        # Carried out in turn, on the same link.
        api.call("revoke", jti="next")
    with plain(redis_site, "news", "?token=" + connection_token(SECRET, "ann", jti="left")) as client:
        assert close_of(client)[0] == INVALID_TOKEN.code


def test_an_answer_that_is_too_large_ends_a_batch(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands behind it are answered with 106, and are not carried out."""
    monkeypatch.setattr("gateway.api.batch.ANSWER", 10)
    replies = batch(
        api, publish("news", 1), {"info": {}}, {"channels": {}}, publish("news", 2), {"revoke": {"jti": "a"}}
    )
    assert [list(reply) for reply in replies] == [["publish"], ["info"], ["error"], ["publish"], ["error"]]
    assert [reply["error"]["code"] for reply in replies if "error" in reply] == [106, 106]


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("batch", '{"commands":[' + "{}," * 300_000 + "{}]}"),
        ("batch", '{"commands":[' + "1," * 500_000 + "1]}"),
        ("batch", '{"commands":[{"info":{},' + ",".join(f'"{number}":1' for number in range(150_000)) + "}]}"),
        ("batch", '{"commands":[' + "{}," * 300_000 + '{}],"commands":[{"publish":1}]}'),
        ("", "1\n" * 500_000),
        ("", "{}" * 250_000),
        ("", "\n" * 500_000 + "1"),
        ("", " " * 500_000 + "\n{"),
    ],
    ids=["empty", "numbers", "names", "twice", "lines", "one line", "blank", "spaces"],
)
def test_what_is_refused_is_not_built_first(site: Site, api: Api, method: str, body: str) -> None:
    """Millions of commands, or of names in one: memory of some times the body, not of objects for each."""
    tracemalloc.start()
    try:
        response = api.http.post(f"/api/{method}".rstrip("/"), content=body.encode())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert '"code":107' in response.text
    # The client has the body too, in this process.
    assert peak < 25 * len(body)


def test_a_request_does_not_fill_the_way_to_the_broker(redis_site: Site) -> None:
    """A broadcast far larger than redis.pending_limit is accepted whole: it waits for what is under way."""
    with Api(redis_site) as api, settled(redis_site, "big") as client:
        data = "x" * 60_000
        # The client reads meanwhile: 6 MB that nobody reads make it a slow one.
        with ThreadPoolExecutor(1) as backend:
            answer = backend.submit(api.call, "broadcast", channels=["big"] * 100, data=data)
            assert {client.recv(10) for _ in range(100)} == {f'"{data}"'}
        assert answer.result()["responses"] == [{"result": {}}] * 100
