"""Key sets that change: a file that is written again, an endpoint that answers, fails, hangs and lies."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import jwks
from gateway.auth.jwks import FILE_INTERVAL, MAX_BYTES, FileKeys, UrlKeys
from gateway.errors import ConfigError
from tests.auth.key_server import KeyServer, answer
from tests.auth.signing import jwk, key_set, private_key
from tests.fakes import ManualScheduler

FIRST = key_set(jwk(private_key("P-256"), kid="first"))
SECOND = key_set(jwk(private_key("P-256", 2), kid="second"))

# Longer than any test.
NEVER = 3600.0


# From a file


def write(path: Path, document: bytes, moment: int) -> None:
    """Write with a modification time of its own, however coarse the clock of the file system is."""
    path.write_bytes(document)
    os.utime(path, (moment, moment))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write(path, FIRST, 1)
    return path


def test_a_file_is_read_again_when_it_changes(file: Path) -> None:
    """At once when a token names a key that is not known, and the removed key is gone."""
    keys = FileKeys(file)
    assert keys.find("first", "ES256")
    assert not keys.find("second", "ES256")
    write(file, SECOND, 2)
    assert keys.find("second", "ES256")
    assert not keys.find("first", "ES256")


def test_a_removed_key_is_noticed_within_seconds(file: Path) -> None:
    """While its tokens are in use the file is looked at every two seconds, not with every token."""
    time = ManualScheduler()
    keys = FileKeys(file, time.now)
    write(file, SECOND, 2)
    assert keys.find("first", "ES256")
    time.advance(FILE_INTERVAL)
    assert not keys.find("first", "ES256")


@pytest.mark.parametrize("document", [b"", b"{}", b"<html>", FIRST[:-1], FIRST + b" " * MAX_BYTES])
def test_a_file_that_became_unusable(file: Path, document: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The keys before stay in use, the log says so once, and a good file is taken again."""
    keys = FileKeys(file)
    write(file, document, 2)
    for _ in range(3):
        assert not keys.find("second", "ES256")
        assert keys.find("first", "ES256")
    assert [str(file) in record.getMessage() for record in caplog.records] == [True]
    write(file, SECOND, 3)
    assert keys.find("second", "ES256")


def test_a_file_that_vanished(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As when it is unusable."""
    keys = FileKeys(file)
    file.unlink()
    assert not keys.find("second", "ES256")
    assert keys.find("first", "ES256")
    assert "stay in use" in caplog.text


@pytest.mark.parametrize("document", [None, b"", b'{"keys":[]}', FIRST + b" " * MAX_BYTES])
def test_a_file_that_is_unusable_from_the_start(tmp_path: Path, document: bytes | None) -> None:
    """Stops the start, with the setting and the path."""
    path = tmp_path / "keys.json"
    if document is not None:
        path.write_bytes(document)
    with pytest.raises(ConfigError, match=r"auth\.jwks_file: .*keys\.json"):
        FileKeys(path)


# From a URL


def with_server(
    test: Callable[[KeyServer, UrlKeys], Coroutine[Any, Any, None]],
    *,
    first: bytes = answer(FIRST),
    ttl: float = NEVER,
    interval: float = 0.0,
    path: str = "/keys",
) -> None:
    """Run the test between start and stop of a key set whose server answers `first`."""

    async def run() -> None:
        async with KeyServer(first) as server:
            keys = UrlKeys(server.url + path, ttl)
            await keys.start()
            try:
                await test(server, keys)
            finally:
                await keys.stop()
                await keys.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jwks, "FETCH_INTERVAL", interval)
        asyncio.run(run())


async def asked(keys: UrlKeys) -> str:
    """Ask and wait for the answer."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    keys.ask(future.set_result)
    return await future


async def known(keys: UrlKeys, key_id: str) -> None:
    """Turns of the loop until the key is there."""
    while not keys.find(key_id, "ES256"):
        await asyncio.sleep(0)


def test_keys_are_fetched_at_start() -> None:
    """Once; finding them asks nobody."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        assert keys.find("first", "ES256")
        assert not keys.find("first", "RS256")
        assert not keys.find("second", "ES256")
        assert server.requests == ["GET /keys HTTP/1.1"]

    with_server(test)


def test_an_unknown_key_is_fetched() -> None:
    """After a rotation; the removed key is gone with it."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        server.answer = answer(SECOND)
        assert await asked(keys) == ""
        assert keys.find("second", "ES256")
        assert not keys.find("first", "ES256")

    with_server(test)


def test_those_who_ask_together_share_a_fetch() -> None:
    """However many tokens name unknown keys."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        await asyncio.gather(*(asked(keys) for _ in range(100)))
        assert len(server.requests) == 2

    with_server(test)


def test_a_fetch_under_way_does_not_answer_those_who_ask_later() -> None:
    """Their key may have been published after it began."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        early = asyncio.create_task(asked(keys))
        server.hang = True
        await server.requested()
        late = asyncio.create_task(asked(keys))
        await server.turns()
        server.hang = False
        server.answer = answer(SECOND)
        server.release()
        await late
        assert early.done()
        assert keys.find("second", "ES256")

    with_server(test)


def test_fetches_keep_their_distance() -> None:
    """Within the interval after a fetch those who ask wait, and stop() answers them."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        waiting = [asyncio.create_task(asked(keys)) for _ in range(20)]
        await server.turns()
        assert len(server.requests) == 1
        assert not any(task.done() for task in waiting)
        await keys.stop()
        assert set(await asyncio.gather(*waiting)) == {"the key set is no longer fetched"}

    with_server(test, interval=NEVER)


def test_those_who_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound the answer comes at once."""
    monkeypatch.setattr(jwks, "MAX_WAITING", 2)

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        waiting = [asyncio.create_task(asked(keys)) for _ in range(2)]
        await server.turns()
        assert "too many" in await asked(keys)
        assert not any(task.done() for task in waiting)

    with_server(test, interval=NEVER)


def test_nobody_waits_for_a_set_that_is_not_fetched() -> None:
    """Before start and after stop the answer comes at once."""

    async def run() -> None:
        keys = UrlKeys("http://127.0.0.1:1/", NEVER)
        assert not keys.find("first", "ES256")
        assert await asked(keys) != ""
        await keys.stop()

    asyncio.run(run())


def test_keys_are_fetched_again_after_their_time() -> None:
    """Without anybody asking, so that a withdrawn key is forgotten."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        server.answer = answer(SECOND)
        await known(keys, "second")
        assert not keys.find("first", "ES256")

    with_server(test, ttl=0.01)


FAILURES = {
    "an error": answer(SECOND, status="500 Internal Server Error"),
    "not found": answer(SECOND, status="404 Not Found"),
    "no content": answer(b"", status="204 No Content"),
    "no JSON": answer(b"<html>"),
    "too much": answer(SECOND + b" " * MAX_BYTES),
    "too much, in chunks": answer(SECOND + b" " * MAX_BYTES, chunked=True),
    "endless": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_BYTES + 100_000),
    "compressed": answer(SECOND, headers="Content-Encoding: gzip\r\n"),
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + SECOND,
    "no HTTP": b"hello\r\n\r\n",
    "silence": b"",
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_an_endpoint_that_fails(failure: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The keys before stay in use, the log and the answer say what went wrong, and the next fetch is taken."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        server.answer = failure
        problem = await asked(keys)
        assert problem.startswith("the key set cannot be fetched: ")
        assert keys.find("first", "ES256")
        assert not keys.find("second", "ES256")
        assert "stay in use" in caplog.text
        server.answer = answer(SECOND)
        assert await asked(keys) == ""
        assert keys.find("second", "ES256")

    with_server(test)


def test_an_endpoint_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up after a time limit over the whole fetch."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        server.hang = True
        # Not before: the first fetch has all the time it needs.
        monkeypatch.setattr(jwks, "FETCH_TIMEOUT", 0.05)
        assert "Timeout" in await asked(keys)
        assert keys.find("first", "ES256")

    with_server(test)


def test_a_key_that_is_withdrawn_is_not_accepted_any_more(caplog: pytest.LogCaptureFixture) -> None:
    """Not even when no other one for us has taken its place: a set without keys is no failure."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        for left in (key_set(jwk(private_key("P-384"), kid="other", alg="ES384")), b'{"keys":[]}'):
            server.answer = answer(FIRST)
            assert await asked(keys) == ""
            assert keys.find("first", "ES256")
            server.answer = answer(left)
            assert await asked(keys) == ""
            assert not keys.find("first", "ES256")
            assert "the previous keys are withdrawn" in caplog.text

    with_server(test)


def test_a_key_that_is_withdrawn_from_the_file_is_not_accepted_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(FIRST)
    keys = FileKeys(file)
    assert keys.find("first", "ES256")
    file.write_bytes(b'{"keys":[]}')
    # One that is unknown is worth a look at once.
    assert not keys.find("second", "ES256")
    assert not keys.find("first", "ES256")
    assert "the previous keys are withdrawn" in caplog.text


def test_an_endpoint_that_fails_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """Stops nothing: whoever needs a key asks for it, and then it is there."""

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        assert "there are no keys yet" in caplog.text
        assert not keys.find("first", "ES256")
        server.answer = answer(FIRST)
        assert await asked(keys) == ""
        assert keys.find("first", "ES256")

    with_server(test, first=FAILURES["an error"])


def test_a_failed_fetch_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon, and without anybody asking."""
    monkeypatch.setattr(jwks, "RETRY_INTERVAL", 0.01)

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        server.answer = answer(FIRST)
        await known(keys, "first")

    with_server(test, first=FAILURES["an error"])


def test_a_redirect_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever can answer for the endpoint cannot make the node ask other hosts."""

    async def run() -> None:
        async with KeyServer(answer(FIRST)) as other, KeyServer(b"") as server:
            server.answer = answer(b"", status="302 Found", headers=f"Location: {other.url}/keys\r\n")
            keys = UrlKeys(server.url + "/keys", NEVER)
            await keys.start()
            await keys.stop()
            assert (len(server.requests), len(other.requests)) == (1, 0)
            assert not keys.find("first", "ES256")

    asyncio.run(run())
    assert "status 302" in caplog.text


def test_secrets_in_the_url_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The line names the endpoint without user, password and query."""

    async def run() -> None:
        async with KeyServer(FAILURES["an error"]) as server:
            url = server.url.replace("://", "://ada:letmein@") + "/keys?token=hidden"
            keys = UrlKeys(url, NEVER)
            await keys.start()
            await keys.stop()
            assert server.requests == ["GET /keys?token=hidden HTTP/1.1"]
            assert f"{server.url}/keys cannot" in caplog.text

    with caplog.at_level("WARNING"):
        asyncio.run(run())
    assert "letmein" not in caplog.text
    assert "hidden" not in caplog.text


def test_a_malformed_url_stops_the_start() -> None:
    """With the setting."""
    with pytest.raises(ConfigError, match=r"auth\.jwks_url"):
        UrlKeys("http://[::1", NEVER)


def test_one_that_fails_to_take_its_answer_does_not_end_the_fetching() -> None:
    """It is reported by the loop, the others get theirs."""
    reported: list[object] = []

    def fail(problem: str) -> None:
        raise ZeroDivisionError

    async def test(server: KeyServer, keys: UrlKeys) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        keys.ask(fail)
        assert await asked(keys) == ""
        server.answer = answer(SECOND)
        assert await asked(keys) == ""
        assert keys.find("second", "ES256")

    with_server(test)
    assert [type(error) for error in reported] == [ZeroDivisionError]
