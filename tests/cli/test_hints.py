"""Commands against nodes that refuse them, and against servers that are no gateway: the user is told what to do."""

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from gateway.tokens import connection_token, subscription_token
from tests.cli.commands import Command, command
from tests.cli.conftest import Run
from tests.cli.test_terminal import serving
from tests.servers import ValkeyServer, valkey_server

SECRET = "0123456789abcdef0123456789abcdef"
NODE = ("serve", "--listen", "127.0.0.1:0", "--internal-listen", "")
CLOSED = {
    "GATEWAY_AUTH__HMAC_SECRET": SECRET,
    "GATEWAY_API__KEYS": SECRET,
    "GATEWAY_NAMESPACES__chat__ALLOW_SUBSCRIBE": "client",
}
MAKES_ONE = "`gateway token --user ID` makes one from auth.hmac_secret."


class Secure(NamedTuple):
    """A node with TLS."""

    url: str
    # File with the authority that signed its certificate.
    authority: str


def url_of(node: Command) -> str:
    return serving(node).replace("ws", "http", 1)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a node that wants tokens and keys."""
    with command(*NODE, cwd=tmp_path_factory.mktemp("closed"), env=CLOSED) as node:
        yield url_of(node)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    env = {"GATEWAY_TLS__KEY": "key.pem", "GATEWAY_TLS__CERTIFICATE": "certificate.pem"}
    with command(*NODE, "--no-auth", cwd=folder, env=env) as node:
        yield Secure(url_of(node), str(folder / "authority.pem"))


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    """A server of another protocol."""
    with valkey_server() as server:
        yield server


@pytest.mark.parametrize(
    ("channel", "token", "environ", "text"),
    [
        ("news", None, {}, "3501 bad request\nThis gateway wants a token: give --token, or --user"),
        (
            "news",
            "x",
            {},
            "3500 invalid token\n`gateway explain news --token",
        ),
        ("news", subscription_token(SECRET, "42", "news"), {}, "It is a subscription token, which opens a channel."),
        (
            "news",
            None,
            {"GATEWAY_AUTH__HMAC_SECRET": SECRET[::-1]},
            "3500 invalid token\nThe token was made from auth.hmac_secret in the settings here",
        ),
        ("news", connection_token(SECRET, "42", expires_in=1, now=1_000_000), {}, "109 token expired\nGet a fresh"),
        ("$a", connection_token(SECRET, "42"), {}, "`gateway explain '$a'` tells by which rule"),
        ("nope:a", connection_token(SECRET, "42"), {}, "`gateway explain nope:a` tells by which rule"),
    ],
)
def test_subscribe_says_what_is_missing(
    run: Run, closed: str, channel: str, token: str | None, environ: dict[str, str], text: str
) -> None:
    """A token, another kind of token, a fresh one, another secret, or a permission."""
    given = ("--token", token) if token is not None else ()
    result = run("subscribe", channel, "--url", closed, *given, **environ)
    assert (result.exit_code, result.stdout) == (1, "")
    assert text in result.stderr
    if "Get a fresh" in text or "wants a token" in text:
        assert MAKES_ONE in result.stderr


def test_the_advice_leads_to_what_the_node_did(run: Run, tmp_path: Path) -> None:
    """A node may be open by its flags alone: `explain` is right when it has them, and says what it lacks."""
    with command(*NODE, "--no-auth", cwd=tmp_path) as node:
        refused = run("subscribe", "$hello", "--url", url_of(node)).stderr
        assert "103 permission denied\n`gateway explain '$hello'` tells by which rule" in refused
        assert "with the --config, --no-auth or --demo that the node was started with" in refused
    told = run("explain", "$hello", "--no-auth").stdout
    assert told.startswith("judged by     --no-auth (no settings file found)\n")
    assert "\nconnect                   allowed: " in told
    lacking = "the defaults, no settings file found: give --config and the flags of the node"
    assert run("explain", "$hello").stdout.startswith(f"judged by     {lacking}\n")


def both(run: Run, url: str, **environ: str) -> list[str]:
    """What a command over WebSocket and one over HTTP say; both fail."""
    results = [run(*args, "--url", url, **environ) for args in (("subscribe", "news"), ("publish", "news", "1"))]
    assert [(result.exit_code, result.stdout) for result in results] == [(1, ""), (1, "")]
    return [result.stderr for result in results]


def test_tls_to_a_plain_port_and_the_reverse(run: Run, closed: str, secure: Secure) -> None:
    """The other scheme is named."""
    for said in both(run, closed.replace("http", "https")):
        assert f"It does not seem to speak TLS: try --url {closed}\n" in said
    for said in both(run, secure.url.replace("https", "http")):
        assert f"Is it a gateway, and does it want TLS? Then: --url {secure.url}\n" in said


def test_a_certificate_that_is_not_trusted_is_said(run: Run, secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no broken proxy, and with the authority the command works."""
    for said in both(run, secure.url):
        assert "CERTIFICATE_VERIFY_FAILED" in said
        assert "SSL_CERT_FILE=FILE names the certificates to trust" in said
        assert "proxy" not in said
    monkeypatch.setenv("SSL_CERT_FILE", secure.authority)
    assert run("publish", "news", "1", "--url", secure.url).exit_code == 0


def test_a_server_that_resets_the_connection_is_said(run: Run) -> None:
    """As one with TLS does, when it leaves unread what it did not understand."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Should a command not connect at all.
        listener.settimeout(20)
        reset = threading.Thread(target=_reset_both, args=(listener,))
        reset.start()
        try:
            for said in both(run, f"http://127.0.0.1:{listener.getsockname()[1]}"):
                assert "Is it a gateway, and does it want TLS?" in said
        finally:
            reset.join()


def _reset_both(listener: socket.socket) -> None:
    for _ in range(2):
        connection, _address = listener.accept()
        with connection:
            connection.recv(1)
            # The rest is unread, and nothing lingers (SO_LINGER of 0 s): close() resets.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_server_of_another_protocol_is_said(run: Run, valkey: ValkeyServer) -> None:
    """It may be a gateway with TLS, too."""
    for said in both(run, f"http://127.0.0.1:{valkey.port}"):
        assert "Is it a gateway, and does it want TLS?" in said


def test_a_path_without_a_gateway_is_said(run: Run, closed: str) -> None:
    """The gateway answers, at its own paths only."""
    result = run("subscribe", "news", "--url", f"{closed}/nowhere")
    assert result.stderr.endswith("The URL has the path /nowhere: does the gateway have it?\n")


def test_a_gateway_that_requires_an_origin_says_so(run: Run, tmp_path: Path) -> None:
    """Commands have none: the answer names the setting."""
    with command(*NODE, "--no-auth", cwd=tmp_path, env={"GATEWAY_ORIGINS__REQUIRED": "true"}) as node:
        result = run("subscribe", "news", "--url", url_of(node))
        assert "refused the connection: 403 origin required (origins.required)" in result.stderr


def test_a_key_from_the_environment_is_used(run: Run, closed: str) -> None:
    """Where other users of the machine do not see it; a refused one is said."""
    assert run("nodes", "--url", closed, GATEWAY_API_KEY=SECRET).exit_code == 0
    assert "refused the API key" in run("nodes", "--url", closed, GATEWAY_API_KEY="another").stderr
    assert "requires an API key" in run("nodes", "--url", closed).stderr
    help = subprocess.check_output([sys.executable, "-m", "gateway", "nodes", "--help"], text=True)
    assert "GATEWAY_API_KEY" in help
