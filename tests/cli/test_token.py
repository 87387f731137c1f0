"""`gateway token` and `gateway url`"""

import time

import jwt
import pytest

from tests.cli.conftest import Run

SECRET = "0123456789abcdef0123456789abcdef"


def claims(run: Run, *args: str, secret: str = SECRET, **environ: str) -> dict[str, object]:
    result = run("token", *args, **{"GATEWAY_AUTH__HMAC_SECRET": SECRET, **environ})
    assert result.exit_code == 0, result.stderr
    return jwt.decode(result.stdout.strip(), secret, algorithms=["HS256"], options={"verify_aud": False})


def test_a_connection_token_is_signed_with_the_configured_secret(run: Run) -> None:
    """For an hour, with the audience and issuer that the gateway asks for."""
    made = claims(run, "--user", "42", GATEWAY_AUTH__AUDIENCE="chat", GATEWAY_AUTH__ISSUER="us")
    assert (made["sub"], made["aud"], made["iss"]) == ("42", "chat", "us")
    assert isinstance(made["exp"], int)
    assert isinstance(made["iat"], int)
    assert made["exp"] - made["iat"] == 3600
    assert made["iat"] <= time.time()
    assert "channel" not in made


def test_a_subscription_token_names_its_channel(run: Run) -> None:
    """Claims are added, and beat those of the settings."""
    made = claims(
        run,
        *("--user", "", "--channel", "$chat:a", "--expires-in", "15m"),
        *("--claims", '{"client": "c1", "info": [1], "jti": "j", "aud": "other"}'),
        GATEWAY_AUTH__AUDIENCE="chat",
    )
    assert isinstance(made["exp"], int)
    assert isinstance(made["iat"], int)
    assert made["exp"] - made["iat"] == 900
    chosen = {name: made[name] for name in ("sub", "channel", "client", "info", "jti", "aud")}
    assert chosen == {"sub": "", "channel": "$chat:a", "client": "c1", "info": [1], "jti": "j", "aud": "other"}


def test_a_token_may_last_for_ever_and_have_another_secret(run: Run) -> None:
    """Of another gateway, whose settings are elsewhere."""
    secret = "another secret with 32 bytes or more"
    assert "exp" not in claims(run, "--user", "1", "--expires-in", "never", "--secret", secret, secret=secret)


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ((), 2, "Missing option '--user'"),
        (("--user", "1", "--expires-in", "0"), 2, "'0' is not a duration"),
        (("--user", "1", "--expires-in", "1w"), 2, "'1w' is not a duration"),
        (("--user", "1", "--expires-in", "-5"), 2, "'-5' is not a duration"),
        (("--user", "1", "--claims", "{"), 2, "not a JSON object of claims"),
        (("--user", "1", "--claims", "[]"), 2, "not a JSON object of claims"),
        (("--user", "1", "--claims", "[" * 10_000), 2, "not a JSON object of claims"),
        (("--user", "1", "--claims", '{"channels": 5}'), 2, "not a JSON object of claims"),
        (("--user", "1", "--claims", '{"expire_at": "soon"}'), 2, "not a JSON object of claims"),
        (("--user", "1", "--claims", '{"sub": "2"}'), 2, "expected some of: info, channels"),
        (("--user", "1", "--claims", '{"client": "2"}'), 2, "expected some of: info, channels"),
        (("--user", "1", "--secret", "short"), 1, "--secret: expected 32 bytes or more; `openssl rand -hex 32`"),
        (("--user", "1", "--secret", f"<{'x' * 32}>"), 1, "--secret: a placeholder in angle brackets"),
        (
            ("--user", "1", "--channel", "bad channel"),
            1,
            "'bad channel' is not a channel: expected 1 to 255 characters",
        ),
        (("--user", "1", "--claims", '{"channels": ["a", "b c"]}'), 1, "'b c' is not a channel"),
        (("--user", "1"), 1, "no secret to sign with: set auth.hmac_secret"),
    ],
)
def test_what_cannot_be_signed_is_said(run: Run, args: tuple[str, ...], code: int, text: str) -> None:
    """One clear message."""
    result = run("token", *args)
    assert result.exit_code == code
    assert text in result.stderr


@pytest.mark.parametrize(
    "args",
    [("--channel", "chatt:a"), ("--claims", '{"channels": ["chatt:a"]}'), ("--claims", '{"subs": {"chatt:a": {}}}')],
)
def test_a_channel_of_a_namespace_that_does_not_exist_is_warned_of(run: Run, args: tuple[str, ...]) -> None:
    """The token is made: the node may have other settings. With the secret of another gateway, it surely has."""
    told = "warning: channel chatt:a: namespace 'chatt' is not configured (namespaces.chatt) in the settings here"
    environ = {"GATEWAY_AUTH__HMAC_SECRET": SECRET, "GATEWAY_NAMESPACES__chat__DELTA": "true"}
    result = run("token", "--user", "1", *args, **environ)
    assert (result.exit_code, result.stderr) == (0, f"{told}; did you mean chat:a?\n")
    for right in (
        ("--channel", "$chat:a#1"),
        ("--channel", "demo:chat"),
        ("--channel", "news"),
        ("--claims", '{"channels": null}'),
        (*args, "--secret", SECRET[::-1]),
    ):
        assert run("token", "--user", "1", *right, **environ).stderr == ""


def test_the_url_of_a_channel_that_does_not_exist_is_warned_of(run: Run) -> None:
    """On standard error, so that the URL can still be used."""
    result = run("url", "chatt:a", GATEWAY_NAMESPACES__chat__DELTA="true")
    assert (result.exit_code, result.stdout) == (0, "ws://127.0.0.1:8000/ws/chatt:a\n")
    assert result.stderr.endswith("in the settings here; did you mean chat:a?\n")
    assert run("url", "chatt:a", "--url", "http://a.b").stderr == ""


@pytest.mark.parametrize(
    ("args", "environ", "url"),
    [
        (("news",), {}, "ws://127.0.0.1:8000/ws/news"),
        (("$chat:a#1,2",), {}, "ws://127.0.0.1:8000/ws/%24chat:a%231,2"),
        (("a/b?c%d&e",), {}, "ws://127.0.0.1:8000/ws/a%2Fb%3Fc%25d%26e"),
        (("news", "--token", "a+b/c="), {}, "ws://127.0.0.1:8000/ws/news?token=a%2Bb%2Fc%3D"),
        (("news", "--listen", "0.0.0.0:80"), {}, "ws://127.0.0.1:80/ws/news"),
        (("news", "--listen", "[::]:80"), {}, "ws://[::1]:80/ws/news"),
        (("news", "--listen", "gw.example.com:80"), {}, "ws://gw.example.com:80/ws/news"),
        (("news",), {"GATEWAY_TLS__CERTIFICATE": "a", "GATEWAY_TLS__KEY": "b"}, "wss://127.0.0.1:8000/ws/news"),
        (("news", "--url", "https://a.b/gw/"), {}, "wss://a.b/gw/ws/news"),
        (("news", "--url", "wss://[::1]:1"), {}, "wss://[::1]:1/ws/news"),
        (("news",), {"GATEWAY_URL": "http://a.b:5"}, "ws://a.b:5/ws/news"),
    ],
)
def test_the_url_of_a_channel_is_quoted(run: Run, args: tuple[str, ...], environ: dict[str, str], url: str) -> None:
    """# would start a fragment, $ a variable."""
    result = run("url", *args, **environ)
    assert result.stdout == f"{url}\n"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("",), "'' is not a channel"),
        (("a b",), "'a b' is not a channel"),
        (("é" * 3,), "is not a channel"),
        (("news", "--listen", "unix:/run/a.sock"), "unix:/run/a.sock is a Unix socket"),
        (("news", "--listen", "127.0.0.1:0"), "no fixed port: give --url"),
        *(
            (("news", "--url", url), "expected http://HOST:PORT, https://HOST:PORT or unix:PATH")
            for url in ("", "a.b:80", "ftp://a.b", "http://", "http://a.b?x", "http://u:p@a.b", "http://a:x", "unix:")
        ),
        (("news", "--url", "http://[::1"), "expected http://HOST:PORT"),
        (("news", "--url", "http://a\x1b.b"), "a character that URLs cannot have"),
        (
            ("news", "--url", "http://a.b:99999"),
            "a port after the host, a number from 1 to 65535; expected http://HOST:PORT",
        ),
        (("news", "--url", f"http://{'a' * 64}.b"), "the host is not a name"),
    ],
)
def test_a_url_that_cannot_be_is_an_error(run: Run, args: tuple[str, ...], text: str) -> None:
    """With what is expected."""
    result = run("url", *args)
    assert result.exit_code == 1
    assert text in result.stderr
    assert "u:p" not in result.stderr
