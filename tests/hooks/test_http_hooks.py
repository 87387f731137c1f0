"""How a backend is asked: over sockets, with replies of every kind, and with none."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from gateway.errors import INTERNAL, RequestError
from gateway.guard import Guard
from gateway.hooks import Hooks, breaker
from gateway.hooks.breaker import FAILURES
from gateway.hooks.decisions import NO_APPLICATION, Extended, Undecided
from gateway.hooks.http_hooks import EXTENSION, LONGEST_REPLY
from gateway.hooks.node_hooks import NodeHooks
from gateway.hooks.questions import (
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RpcRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from gateway.metrics import Metrics
from tests.api.site import settings_of
from tests.hooks.backend import SECRET, is_signed
from tests.hooks.test_http_format import Seen

# Seconds after which a test that hangs has failed.
PATIENCE = 10


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


class Asked:
    """A request, as the backend gets it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }
        self.raw = body
        self.body = json.loads(body)


Respond = Callable[[Asked], Awaitable[bytes]]


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def result(**fields: Any) -> bytes:
    return response(json.dumps({"result": fields}).encode())


class Backend:
    """A server that speaks no more HTTP than it has to, and gives any bytes for an answer."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.asked: list[Asked] = []
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """Its URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return "http://{}:{}".format(*self._server.sockets[0].getsockname())

    def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                length = next(
                    int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
                )
                self.asked.append(Asked(head, await reader.readexactly(length)))
                writer.write(await self._respond(self.asked[-1]))
                if not self._server.is_serving():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def request_of(kind: str, client: str = "c", **fields: Any) -> Request:
    who: dict[str, Any] = {
        "client": client,
        "user": "",
        "address": "",
        "protocol": "centrifuge",
        "transport": "websocket",
        **fields,
    }
    match kind:
        case "connect":
            return ConnectRequest(**{"handshake": Seen(), **who})
        case "refresh":
            return RefreshRequest(**who)
        case "subscribe":
            return SubscribeRequest(**who, channel="chat:1")
        case "sub_refresh":
            return SubRefreshRequest(**who, channel="chat:1")
        case "publish":
            return PublishRequest(**who, channel="chat:1", raw=b"1")
        case _:
            return RpcRequest(**who, method="m")


KINDS = ("connect", "refresh", "subscribe", "sub_refresh", "publish", "rpc")


class Node:
    """Asks as a node does."""

    def __init__(
        self, url: str, *, kinds: tuple[str, ...] = KINDS, hooks: Hooks | None = None, **settings: Any
    ) -> None:
        http = {**{kind: f"{url}/{kind}" for kind in kinds}, **settings}
        self.metrics = Metrics()
        made = settings_of(hooks={"http": http}).hooks.http
        self.hooks = NodeHooks(hooks or Hooks(), made, self.metrics, Guard(self.metrics.faults))

    async def __aenter__(self) -> "Node":
        await self.hooks.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hooks.stop()

    def ask(self, kind: str = "rpc", client: str = "c", **fields: Any) -> "asyncio.Future[Any]":
        decided: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        hook: Any = getattr(self.hooks.application, kind)
        if kind not in ("connect", "refresh"):
            hook = hook.find("chat")
        hook(request_of(kind, client, **fields), decided.set_result)
        return decided


def against(respond: Respond, test: Callable[[Backend, Node], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a backend that answers so."""

    async def main() -> None:
        backend = Backend(respond)
        async with Node(await backend.start(), **settings) as node:
            await test(backend, node)
        backend.stop()

    run(main())


def always(answer: bytes) -> Respond:
    async def respond(asked: Asked) -> bytes:
        return answer

    return respond


async def never(asked: Asked) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


def is_internal(outcome: Any) -> bool:
    return isinstance(outcome, RequestError) and outcome.error == INTERNAL


def test_without_urls_there_is_no_application() -> None:
    assert Node("http://x", kinds=()).hooks.application is NO_APPLICATION


def test_every_kind_has_its_url_and_calls_share_a_connection() -> None:
    async def test(backend: Backend, node: Node) -> None:
        for kind in KINDS:
            assert not isinstance(await node.ask(kind), RequestError)
        assert [asked.target for asked in backend.asked] == [f"/{kind}" for kind in KINDS]
        assert {(asked.method, asked.headers["content-type"]) for asked in backend.asked} == {
            ("POST", "application/json")
        }
        assert backend.connections == 1
        assert node.metrics.hook_calls.values == dict.fromkeys(KINDS, 1)
        assert node.metrics.hook_errors.values == {}

    against(always(result()), test)


def test_requests_are_signed() -> None:
    async def test(backend: Backend, node: Node) -> None:
        await node.ask()
        (asked,) = backend.asked
        header = asked.headers["x-gateway-signature"]
        assert is_signed(header, asked.raw)
        assert not is_signed(header, asked.raw + b" ")
        assert abs(int(header.partition(",")[0].removeprefix("t=")) - time.time()) < 60

    against(always(result()), test, secret=SECRET)


def test_only_the_named_headers_are_forwarded() -> None:
    """By the connect hook from the handshake, by the others from what is kept of it."""
    handshake = Seen()
    handshake.scope = {"headers": [(b"cookie", b"s=1"), (b"authorization", b"Bearer x"), (b"x-other", b"1")]}

    async def test(backend: Backend, node: Node) -> None:
        assert node.hooks.application.forwarded == {b"cookie", b"x-a"}
        assert node.hooks.application.reads_cookies
        await node.ask("connect", handshake=handshake)
        await node.ask("publish", forwarded=((b"cookie", b"s=2"),))
        await node.ask("publish")
        assert [asked.headers.get("cookie") for asked in backend.asked] == ["s=1", "s=2", None]
        assert all("authorization" not in asked.headers for asked in backend.asked)

    against(always(result()), test, headers=["Cookie", "X-A"])


def test_nothing_is_kept_for_a_connect_hook_alone() -> None:
    assert Node("http://x", kinds=("connect",), headers=["cookie"]).hooks.application.forwarded == frozenset()


def test_cookies_of_the_backend_are_not_sent_to_it_again() -> None:
    """They would come with the requests of other clients."""

    async def test(backend: Backend, node: Node) -> None:
        for client in ("ann", "bob"):
            await node.ask("rpc", client)
        assert all("cookie" not in asked.headers for asked in backend.asked)

    against(always(response(b'{"result":{}}', "200 OK", "Set-Cookie: session=ann; Path=/")), test)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(b"{}", "400 Bad Request"), "status 400"),
        (response(b"", "302 Found", "Location: http://127.0.0.1:1/"), "status 302"),
        (response(b'{"result":{}}', "201 Created"), "status 201"),
        (response(b"<html>"), "the reply cannot be used: JSON is malformed"),
        (response(b"x" * 10, "200 OK", "Content-Encoding: gzip"), "the reply is compressed"),
        (response(b'"' + b"x" * LONGEST_REPLY + b'"'), f"the reply has more than {LONGEST_REPLY} bytes"),
        (response(b'{"result":{"version":1}}'), "the result has version, which the gateway does not support"),
    ],
)
def test_replies_that_cannot_be_used(answer: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """They refuse, also where an unavailable backend would not: it was there, and said something else than yes."""

    async def test(backend: Backend, node: Node) -> None:
        for _ in range(2 * FAILURES):
            assert is_internal(await node.ask("publish", f"c{_}"))
        assert node.metrics.hook_errors.values == {"publish": 2 * FAILURES}
        assert node.metrics.faults.values == {}
        assert node.metrics.hook_circuits.read()["publish"] == 0

    against(always(answer), test, when_unavailable="allow")
    assert reason in caplog.text
    assert "publish hook http://127.0.0.1" in caplog.text


UNAVAILABLE = [
    response(b"", "500 Internal Server Error"),
    response(b"<html>", "503 Service Unavailable"),
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
    b"SSH-2.0-OpenSSH\r\n",
]


@pytest.mark.parametrize("answer", UNAVAILABLE)
@pytest.mark.parametrize("policy", ["refuse", "allow"])
def test_a_backend_that_cannot_answer(answer: bytes, policy: str) -> None:
    """Each kind is refused, or left to the settings. Calls have no other answer; what lives, lives on for a while."""

    async def respond(asked: Asked) -> bytes:
        backends[0]._server.close()
        return answer

    backends: list[Backend] = []

    async def test(backend: Backend, node: Node) -> None:
        backends.append(backend)
        for kind in KINDS:
            outcome = await node.ask(kind)
            if policy == "refuse" or kind == "rpc":
                assert is_internal(outcome)
            elif kind in ("refresh", "sub_refresh"):
                assert isinstance(outcome, Extended)
                assert abs(outcome.expire_at - time.time() - EXTENSION) < PATIENCE
            else:
                assert isinstance(outcome, Undecided)
                assert is_internal(outcome.error)

    against(respond, test, when_unavailable=policy)


def test_a_backend_that_fails_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """For all clients at once, and only the hook that fails. One call tries whether it is back."""
    caplog.set_level(logging.INFO)
    is_down = True

    async def respond(asked: Asked) -> bytes:
        return response(b"", "500 Internal Server Error") if is_down and asked.target == "/rpc" else result()

    async def test(backend: Backend, node: Node) -> None:
        nonlocal is_down
        for _ in range(3 * FAILURES):
            assert is_internal(await node.ask("rpc", "mallory"))
        assert node.metrics.hook_circuits.read()["rpc"] == 0
        for number in range(FAILURES):
            assert is_internal(await node.ask("rpc", f"client {number}"))
        assert node.metrics.hook_circuits.read() == {**dict.fromkeys(KINDS, 0), "rpc": 1}
        asked = len(backend.asked)
        done = node.ask("rpc", "ann")
        assert done.done()
        assert is_internal(done.result())
        assert len(backend.asked) == asked
        assert not is_internal(await node.ask("publish"))
        is_down = False
        monkeypatch.setattr(node.hooks._http._backends["rpc"].breaker, "_clock", lambda: time.monotonic() + 60)
        assert await node.ask("rpc", "ann") == b"null"
        assert node.metrics.hook_circuits.read()["rpc"] == 0

    assert breaker.PAUSE < 60
    against(respond, test)
    assert f"failed for {FAILURES} clients in a row: it is not asked for 5 s" in caplog.text
    assert "answers again" in caplog.text


def test_calls_that_wait_for_a_failing_backend_are_not_made() -> None:
    """Those that were admitted before it failed."""
    gate = asyncio.Event()

    async def respond(asked: Asked) -> bytes:
        await gate.wait()
        return response(b"", "500 Internal Server Error")

    async def test(backend: Backend, node: Node) -> None:
        calls = [node.ask("rpc", f"client {number}") for number in range(10 * FAILURES)]
        gate.set()
        assert all(map(is_internal, await asyncio.gather(*calls)))
        assert len(backend.asked) == FAILURES

    against(respond, test, concurrency=FAILURES)


def test_hooks_in_python_and_over_http_answer_together() -> None:
    """Each its own kinds and names; what one keeps, the other gets."""
    hooks = Hooks()

    @hooks.rpc("m")
    async def m(request: RpcRequest) -> Any:
        return request.meta

    @hooks.subscribe("other")
    async def may_enter(request: SubscribeRequest) -> bool:
        return True

    application = Node("http://x", hooks=hooks, namespaces=["chat"], headers=["cookie"]).hooks.application
    assert application.rpc is not None
    assert application.subscribe is not None
    assert application.rpc.find("m") is not application.rpc.find("n") is not None
    assert application.subscribe.find("other") is not application.subscribe.find("chat") is not None
    assert application.subscribe.find("third") is None
    assert None not in (application.connect, application.refresh, application.publish, application.sub_refresh)
    assert application.forwarded == {b"cookie"}
    assert application.reads_cookies


def test_a_connection_refused_and_a_name_that_does_not_exist() -> None:
    async def test() -> None:
        backend = Backend(never)
        url = await backend.start()
        backend.stop()
        for each in (url, "http://backend.invalid"):
            async with Node(each) as node:
                assert is_internal(await node.ask())

    run(test())


def test_a_call_that_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a backend that never answers, nor one that never ends, holds it up. It counts as unavailable."""

    async def drips(asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"

    for respond in (never, drips):

        async def test(backend: Backend, node: Node) -> None:
            outcomes = await asyncio.gather(*(node.ask("publish", f"client {each}") for each in range(FAILURES)))
            assert all(isinstance(each, Undecided) for each in outcomes)
            assert node.metrics.hook_timeouts.values == {"publish": FAILURES}
            assert node.metrics.hook_circuits.read()["publish"] == 1

        against(respond, test, timeout=0.2, when_unavailable="allow")
    assert "took longer than 0.2 s" in caplog.text


def test_a_reply_of_one_byte_a_piece_leaves_the_loop_to_others() -> None:
    """And is read like any other."""
    body = b'{"result":{"data":"%b"}}' % (b"x" * 2000)
    pieces = b"".join(b"1\r\n%c\r\n" % each for each in body)

    async def test(backend: Backend, node: Node) -> None:
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not answered.done():
                asyncio.get_running_loop().call_soon(turn)

        answered = node.ask()
        turn()
        assert await answered == body[len('{"result":{"data":') : -2]
        assert turns > len(body) / 40

    against(always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"), test)


def test_one_slow_client_does_not_keep_others_waiting() -> None:
    async def respond(asked: Asked) -> bytes:
        return await never(asked) if asked.body["client"] == "slow" else result(data=asked.body["client"])

    async def test(backend: Backend, node: Node) -> None:
        slow = [node.ask("rpc", "slow") for _ in range(50)]
        for _ in range(20):
            assert await node.ask("rpc", "ann") == b'"ann"'
        assert not any(each.done() for each in slow)

    against(respond, test, concurrency=6)


def test_the_end_of_the_node_ends_all_calls() -> None:
    async def test(backend: Backend, node: Node) -> None:
        calls = [node.ask() for _ in range(5)]
        while not backend.asked:
            await asyncio.sleep(0)
        assert node.metrics.hooks_running.read() == 4
        await node.hooks.stop()
        assert all(map(is_internal, await asyncio.gather(*calls)))

    against(never, test)


def test_what_is_secret_in_a_url_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        url = "http://user:passw0rd@127.0.0.1:1/rpc?key=k3y"
        async with Node("", kinds=(), rpc=url) as node:
            assert is_internal(await node.ask())

    run(test())
    assert "rpc hook http://127.0.0.1:1/rpc failed" in caplog.text
    assert "passw0rd" not in caplog.text
    assert "k3y" not in caplog.text
