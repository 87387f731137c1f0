"""`gateway subscribe`, against a double of the native protocol on a real socket."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve, unix_serve

from gateway.cli.follower import Follower
from gateway.cli.subscribe import OWN_TOKENS
from gateway.config.target import target_of
from gateway.errors import GatewayError
from tests.cli.conftest import Run

SECRET = "0123456789abcdef0123456789abcdef"
Script = Callable[[ServerConnection, list[dict[str, Any]]], None]


@contextmanager
def gateway(script: Script, path: str = "") -> Iterator[str]:
    """A server that plays `script` to each connection, which gets the commands of the first frame; yields its URL."""

    def play(connection: ServerConnection) -> None:
        first = connection.recv()
        assert isinstance(first, str)
        try:
            script(connection, [json.loads(line) for line in first.split("\n")])
        except ConnectionClosed:
            return

    server: Server = unix_serve(play, path) if path else serve(play, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"unix:{path}" if path else f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join()


def accept(connection: ServerConnection, commands: list[dict[str, Any]], ping: int = 25) -> None:
    """Answer a connect and its subscribes."""
    replies: list[dict[str, Any]] = [{"id": 1, "connect": {"client": "c", "version": "v", "ping": ping, "pong": True}}]
    replies += [{"id": command["id"], "subscribe": {}} for command in commands[1:]]
    connection.send("\n".join(map(json.dumps, replies)))


def push(connection: ServerConnection, *pushes: dict[str, Any]) -> None:
    connection.send("\n".join(json.dumps({"push": each}) for each in pushes))


# Refusals


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ('{"id":1,"error":{"code":109,"message":"token expired"}}', "connect refused: 109 token expired"),
        (
            '{"id":2,"error":{"code":103,"message":"no\\n"}}',
            "subscribe to news refused: 103 no\\n\n`gateway explain news` tells by which rule",
        ),
        (
            '{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}',
            "subscribe to news refused: 100 internal server error\nThis is temporary: /health/ready, or the log of",
        ),
        ("hello", "is this a gateway?"),
        ("[]", "is this a gateway?"),
        ('{"push":5}', "is this a gateway?"),
        ('{"push":{"pub":5}}', "is this a gateway?"),
        ("", "is this a gateway?"),
        ("[" * 100_000, "is this a gateway?"),
        (b"\xff", "is this a gateway?"),
        (
            '{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"bye"}}}',
            "the subscription to news: 2000 bye",
        ),
    ],
)
def test_what_is_refused_or_makes_no_sense_ends_the_command(run: Run, reply: str | bytes, text: str) -> None:
    """With exit code 1 and the reason."""

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        connection.send(reply)
        connection.recv()

    with gateway(script) as url:
        result = run("subscribe", "news", "--url", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert text in result.stderr


def test_a_close_is_told_with_its_code(run: Run) -> None:
    """The code and reason of the gateway, or that there was none."""
    with gateway(lambda connection, _: connection.close(3500, "invalid token")) as url:
        result = run("subscribe", "news", "--url", url)
        assert result.exit_code == 1
        assert result.stderr == f"Error: {url} closed the connection: 3500 invalid token\n"
    with gateway(lambda connection, _: connection.socket.shutdown(socket.SHUT_RDWR)) as url:
        assert run("subscribe", "news", "--url", url).stderr == f"Error: {url} closed the connection: without a word\n"


def test_a_gateway_that_is_not_there_or_no_gateway_is_said(run: Run) -> None:
    """Refused, not speaking HTTP, no such socket."""

    def hang_up() -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        closing = threading.Thread(target=hang_up)
        closing.start()
        broken = run("subscribe", "news", "--url", url)
        closing.join()
    gone = run("subscribe", "news", "--url", url)
    nowhere = run("subscribe", "news", "--url", "unix:/nonexistent/gateway.sock")
    for result in (broken, gone, nowhere):
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: cannot connect to ")


def test_a_gateway_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the announced pings stay away."""
    monkeypatch.setattr("gateway.cli.follower.PING_GRACE", 0.05)

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        accept(connection, commands, ping=0)
        connection.recv()

    with gateway(script) as url, pytest.raises(GatewayError, match=r"nothing was heard from .* for 0\.05 s"):
        Follower(["news"], "", lambda channel: "", print).follow(target_of(url))


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ((), 2, "Missing argument 'CHANNEL...'"),
        (("a", "--token", "t", "--user", "u"), 2, "one of --token and --user"),
        (("a", "--count", "0"), 2, "--count"),
        (("a", "--user", "u"), 1, "--user needs auth.hmac_secret"),
        (("a", "--url", "nonsense"), 1, "expected http://HOST:PORT"),
    ],
)
def test_a_wrong_command_line_is_said(run: Run, args: tuple[str, ...], code: int, text: str) -> None:
    """Before anything is connected."""
    result = run("subscribe", *args)
    assert result.exit_code == code
    assert text in result.stderr


# Publications


def test_publications_are_lines_of_json(run: Run) -> None:
    """With their channel, as many as asked for, pings answered in between, unknown pushes left aside."""
    answers: list[str | bytes] = []

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        accept(connection, commands)
        push(connection, {"channel": "a", "pub": {"data": {"x": 1.5}}}, {"channel": "a", "join": {}})
        connection.send('{}\n{"id":99,"rpc":{}}')
        answers.append(connection.recv())
        push(
            connection,
            {"channel": "b", "pub": {"data": "é\n\x1b[31m\x9b\u2028", "offset": 7, "tags": {"k": "v"}}},
            {"channel": "b", "pub": {"data": "one too many"}},
        )
        connection.recv()

    with gateway(script) as url:
        result = run("subscribe", "a", "b", "a", "--count", "2", "--url", url)
    assert result.exit_code == 0
    assert answers == ["{}"]
    assert result.stderr == "subscribed to a\nsubscribed to b\n"
    lines = result.stdout.splitlines()
    assert all(line.isprintable() for line in lines)
    assert "é" in lines[1]
    assert [json.loads(line) for line in lines] == [
        {"channel": "a", "data": {"x": 1.5}},
        {"channel": "b", "data": "é\n\x1b[31m\x9b\u2028", "offset": 7, "tags": {"k": "v"}},
    ]


def test_a_gap_is_told_and_the_channel_subscribed_again(run: Run) -> None:
    """Code 2500: publications may be missing."""
    again: list[Any] = []

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        accept(connection, commands)
        push(connection, {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}})
        again.append(json.loads(connection.recv()))
        connection.send(json.dumps({"id": again[0]["id"], "subscribe": {}}))
        push(connection, {"channel": "a", "pub": {"data": 1}})
        connection.recv()

    with gateway(script) as url:
        result = run("subscribe", "a", "--count", "1", "--url", url)
    assert again == [{"id": 3, "subscribe": {"channel": "a"}}]
    assert "publications of a may be missing here: 2500 insufficient state" in result.stderr
    assert (result.exit_code, result.stdout) == (0, '{"channel": "a", "data": 1}\n')


@pytest.mark.parametrize("recovered", [True, False])
def test_what_was_missed_is_asked_for(run: Run, recovered: bool) -> None:
    """On channels with history: from behind the last one that was printed; what is gone is told."""
    again: list[Any] = []
    stream = {"recoverable": True, "positioned": True, "epoch": "e"}

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        accept(connection, commands[:1])
        connection.send(json.dumps({"id": 2, "subscribe": {**stream, "offset": 6}}))
        push(connection, {"channel": "a", "pub": {"data": 7, "offset": 7}})
        push(connection, {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}})
        again.append(json.loads(connection.recv()))
        missed = {"recovered": True, "publications": [{"data": 8, "offset": 8}]} if recovered else {}
        reply = {**stream, "offset": 7 if recovered else 9, "was_recovering": True, **missed}
        connection.send(json.dumps({"id": 3, "subscribe": reply}))
        push(connection, {"channel": "a", "pub": {"data": 9, "offset": 9 if recovered else 10}})
        connection.recv()

    with gateway(script) as url:
        result = run("subscribe", "a", "--count", "3" if recovered else "2", "--url", url)
    assert again == [{"id": 3, "subscribe": {"channel": "a", "recover": True, "epoch": "e", "offset": 7}}]
    printed = [json.loads(line)["data"] for line in result.stdout.splitlines()]
    assert printed == ([7, 8, 9] if recovered else [7, 9])
    assert ("they are no longer in the history" in result.stderr) is not recovered
    assert "may be missing" not in result.stderr


# Tokens


def opening(run: Run, *args: str, **environ: str) -> list[dict[str, Any]]:
    """The commands that the gateway gets first."""
    seen: list[dict[str, Any]] = []

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        seen.extend(commands)

    with gateway(script) as url:
        run("subscribe", *args, "--url", url, **environ)
    return seen


def test_a_given_token_shows_what_that_client_gets(run: Run) -> None:
    """No tokens are made besides it, whatever the settings hold; broken ones do not matter."""
    Path("gateway.toml").write_text("nonsense")
    expected = [
        {"id": 1, "connect": {"token": "t", "name": "gateway"}},
        {"id": 2, "subscribe": {"channel": "$a"}},
    ]
    assert opening(run, "$a", "--token", "t", GATEWAY_AUTH__HMAC_SECRET=SECRET) == expected


def test_without_token_and_secret_the_client_is_anonymous(run: Run) -> None:
    """The gateway decides whether it wants such clients."""
    assert opening(run, "a")[0] == {"id": 1, "connect": {"name": "gateway"}}


def test_with_the_secret_the_command_lets_itself_in(run: Run) -> None:
    """Into private channels too; the tokens are short-lived, the connection is not."""
    environ = {"GATEWAY_AUTH__HMAC_SECRET": SECRET, "GATEWAY_AUTH__AUDIENCE": "chat"}
    connect, first, second = opening(run, "$a", "b", "--user", "42", **environ)
    tokens = [connect["connect"]["token"], first["subscribe"]["token"], second["subscribe"]["token"]]
    claims = [jwt.decode(token, SECRET, algorithms=["HS256"], audience="chat") for token in tokens]
    assert [(each["sub"], each.get("channel"), each["expire_at"]) for each in claims] == [
        ("42", None, 0),
        ("42", "$a", 0),
        ("42", "b", 0),
    ]
    assert all(each["exp"] - each["iat"] == 60 for each in claims)


def test_tokens_of_its_own_are_told(run: Run) -> None:
    """They open more than a client of that user could: that is said once, and only where it is so."""

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        accept(connection, commands)
        push(connection, {"channel": "$a", "pub": {"data": 1}})
        connection.recv()

    environ = {"GATEWAY_AUTH__HMAC_SECRET": SECRET}
    subscribed = "subscribed to $a\n"
    with gateway(script) as url:

        def said(*args: str, **environ: str) -> str:
            return run("subscribe", "$a", "--url", url, "--count", "1", *args, **environ).stderr

        assert said("--user", "42", **environ) == said(**environ) == f"{OWN_TOKENS}\n{subscribed}"
        assert said("--token", "t", **environ) == said() == subscribed
    assert "may not subscribe to" in run("subscribe", "--help").stdout


# Ways


def test_the_address_comes_from_the_settings(run: Run, tmp_path: Path) -> None:
    """Port or Unix socket of the public listener."""

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        assert connection.request is not None
        assert connection.request.path == "/connection/websocket"
        accept(connection, commands)
        push(connection, {"channel": "a", "pub": {"data": 1}})
        connection.recv()

    with gateway(script) as url:
        assert run("subscribe", "a", "--count", "1", GATEWAY_LISTEN=url.removeprefix("http://")).exit_code == 0
    path = os.path.join(tmp_path, "g.sock")
    with gateway(script, path) as url:
        assert run("subscribe", "a", "--count", "1", GATEWAY_LISTEN=url).exit_code == 0


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    """What came before has been written, nothing comes after, and the gateway sees an orderly close."""
    closed = threading.Event()

    def script(connection: ServerConnection, commands: list[dict[str, Any]]) -> None:
        accept(connection, commands)
        push(connection, {"channel": "a", "pub": {"data": 1}})
        try:
            connection.recv()
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code == 1000:
                closed.set()

    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    with gateway(script) as url:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "subscribe", "a", "--url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environ,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        assert closed.wait(10)
    assert (line, stdout) == ('{"channel": "a", "data": 1}\n', "")
    assert (process.returncode, stderr) == (130, "subscribed to a\n")
