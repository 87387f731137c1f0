"""Settings that are wrong together: errors that stop the start, and warnings of `gateway check`."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config import checks, sources
from gateway.config.settings import ServerSettings
from gateway.errors import ConfigError

SECRET = "0123456789abcdef0123456789abcdef"
KEY = "fedcba9876543210fedcba9876543210"


def settings(**values: Any) -> ServerSettings:
    return ServerSettings.model_validate(values)


# Sound settings of a team in production.
SOUND: dict[str, Any] = {
    "listen": "0.0.0.0:8000",
    "workers": 4,
    "redis": {"url": "redis://redis"},
    "auth": {"hmac_secret": SECRET, "audience": "chat", "cookie": "token"},
    "api": {"keys": [KEY]},
    "origins": {"allowed": ["https://example.com"]},
    "namespaces": {"user": {}},
    "personal": {"enabled": True, "namespace": "user"},
    "trusted_proxies": ["10.0.0.0/8"],
}


def test_sound_settings_pass_without_a_word() -> None:
    """Nothing to complain of means no output."""
    assert checks.errors(settings(**SOUND)) == []
    assert checks.warnings(settings(**SOUND)) == []


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"no_auth": True, "listen": "0.0.0.0:8000"}, "allow_open_network"),
        ({"demo": True, "listen": "[::]:8000"}, "allow_open_network"),
        ({"no_auth": True, "demo": True, "listen": "example.com:8000"}, "no_auth and demo"),
        ({"no_auth": True, "internal_listen": "10.0.0.1:9000"}, "internal_listen = '10.0.0.1:9000'"),
        ({"auth": {"hmac_secret": SECRET[:31]}}, "auth.hmac_secret = ***: expected 32 bytes"),
        ({"auth": {"hmac_secret_previous": "short"}}, "auth.hmac_secret_previous"),
        ({"auth": {"hmac_secret": f"<{SECRET}>"}}, "auth.hmac_secret = ***: a placeholder in angle brackets"),
        (
            {"api": {"keys": [KEY[:31]]}},
            "api.keys[0] = ***: expected 32 bytes or more; `openssl rand -hex 32` makes one",
        ),
        (
            {"hooks": {"http": {"rpc": "http://b/", "secret": KEY[:31]}}},
            "hooks.http.secret = ***: expected 32 bytes",
        ),
        ({"api": {"keys": [KEY, "<openssl rand -hex 32>"]}}, "api.keys[1] = ***: a placeholder in angle brackets"),
        *(
            ({"auth": {"hmac_secret": text}}, "auth.hmac_secret = ***: a placeholder")
            for text in (
                "${HMAC_SECRET_OF_THE_GATEWAY_SERVICE}",
                "{{ .Values.gateway.secrets.hmacSecret }}",
                "change-me-in-production-please-really",
                "please REPLACE_WITH a secret of your own",
            )
        ),
        ({"api": {"keys": ["0" * 64]}}, "api.keys[0] = ***: it has fewer than 8 different characters"),
        ({"tls": {"certificate": "a.pem"}}, "tls.key: not set"),
        ({"tls": {"key": "a.pem"}}, "tls.certificate: not set"),
        ({"workers": 2}, "redis.url: not set"),
        ({"listen": "127.0.0.1:9000"}, "internal_listen = '127.0.0.1:9000': already taken by listen"),
        ({"listen": ["[::1]:1", "[::1]:1"]}, "listen = '[::1]:1': already taken by listen = '[::1]:1'"),
        ({"listen": ["*:1", "localhost:1"]}, "listen = 'localhost:1': already taken by listen = '*:1'"),
        ({"listen": ["127.0.0.1:1", "[::]:1"]}, "listen = '[::]:1': already taken"),
        ({"listen": ["127.0.0.1:1", "0.0.0.0:1"]}, "listen = '0.0.0.0:1': already taken"),
        ({"listen": "unix:/a", "internal_listen": "unix:/a"}, "internal_listen = 'unix:/a': already taken"),
        ({"demo": True, "listen": "*:8000"}, "listen = '*:8000'"),
        ({"no_auth": True, "listen": ["127.0.0.1:8000", "*:8001"]}, "listen = '*:8001'"),
    ],
)
def test_an_error_names_the_setting(values: dict[str, Any], setting: str) -> None:
    """The node does not start, and the text says what to change."""
    (error,) = checks.errors(settings(**values))
    assert setting in error
    with pytest.raises(ConfigError, match=r"allow_open_network|auth|api|hooks|tls|redis\.url|listen"):
        sources.read(None, {}, {f"GATEWAY_{name.upper()}": _json(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("text", "environ", "error"),
    [
        ('auth.hmac_secret = "x"', {}, "auth.hmac_secret = *** (settings.toml): expected 32 bytes"),
        ("", {"GATEWAY_API__KEYS": "x"}, "api.keys[0] = *** (GATEWAY_API__KEYS): expected 32 bytes"),
        ("workers = 2", {}, "redis.url: not set, but workers = 2 (settings.toml); several"),
        ('tls.key = "x"', {}, "tls.certificate: not set, but tls.key is (settings.toml); TLS"),
        ("no_auth = true", {"GATEWAY_LISTEN": "*:1"}, "listen = '*:1' (GATEWAY_LISTEN): no_auth would open"),
        (
            'internal_listen = "*:1"',
            {"GATEWAY_LISTEN": "*:1"},
            "internal_listen = '*:1' (settings.toml): already taken by listen = '*:1' (GATEWAY_LISTEN)",
        ),
    ],
)
def test_an_error_names_the_file_or_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, environ: dict[str, str], error: str
) -> None:
    """As all other errors in settings do."""
    monkeypatch.chdir(tmp_path)
    file = Path("settings.toml")
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        sources.read(file, {}, environ)
    assert error in str(caught.value)


def _json(value: Any) -> str:
    return str(value).replace("'", '"')


@pytest.mark.parametrize(
    "values",
    [
        {"no_auth": True},
        {"no_auth": True, "listen": "localhost:8000", "internal_listen": "unix:/run/gateway.sock"},
        {"demo": True, "listen": "[::1]:8000", "internal_listen": ""},
        {"no_auth": True, "listen": "0.0.0.0:8000", "allow_open_network": True},
        {"listen": "127.0.0.1:0", "internal_listen": "127.0.0.1:0"},
        {"demo": True, "listen": ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0", "unix:/run/a"]},
        {"listen": "0.0.0.0:8000"},
        {"listen": ["0.0.0.0:8000", "[::]:8000"]},
        {"listen": ["0.0.0.0:8000", "[::1]:8000", "*:0", "*:8001"]},
    ],
)
def test_these_are_no_errors(values: dict[str, Any]) -> None:
    """Open on this machine only, open in so many words, and closed on every network."""
    assert checks.errors(settings(**values)) == []


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"auth": {}}, "nobody can connect"),
        ({"auth": {"audience": "x", "anonymous": True}}, "auth.audience is set, but no key"),
        ({"auth": {"issuer": "x", "anonymous": True}}, "auth.issuer is set, but no key"),
        ({"auth": {"cookie": "x", "anonymous": True}}, "auth.cookie is set, but no key"),
        ({"auth": {"anonymous": True, "hmac_secret_previous": SECRET}}, "auth.hmac_secret is not"),
        ({"auth": {"anonymous": True, "public_key_previous": "PEM"}}, "auth.public_key is not"),
        ({"auth": {"jwks_url": "http://example.com/keys"}}, "auth.jwks_url is not https"),
        ({"api": {"keys": []}}, "api.public is on, but api.keys is empty"),
        ({"api": {"keys": [], "public": False}}, "internal listener, but api.keys is empty"),
        ({"api": {"insecure": True}}, "everybody who reaches listen"),
        ({"origins": {}}, "origins.allowed is empty: no page"),
        ({"origins": {"allowed": ["*"]}}, "any page on the web"),
        ({"origins": {"allowed": ["https://a.b"], "required": False}}, "origins.required = false"),
        ({"trusted_proxies": ["::/0"]}, "trusted_proxies contains every address"),
        ({"channels": {"delivery": "latest", "history_size": 5}}, "channels.history_size has no effect"),
        (
            {"limits": {"outbox": 400_000}, "namespaces": {"user": {"delivery": "latest"}}},
            "namespaces.user.latest_size is more than limits.outbox",
        ),
        ({"namespaces": {"user": {"history_meta_ttl": 5}}}, "namespaces.user.history_meta_ttl is less than"),
        ({"channels": {"join_leave": "users", "presence": False}}, "channels.presence = false lets nobody read them"),
        ({"personal": {"namespace": "user"}}, "personal.enabled is off"),
        ({"compression": {"level": 2}}, "compression.level is without effect: compression.enabled is off"),
        ({"auth": {"hmac_secret": SECRET}, "origins": {}}, "origins.allowed is empty: no page in a browser"),
        ({"workers": 1, "redis": {}}, "redis.url is not set: this node is alone"),
        ({"workers": 1, "redis": {"prefix": "x", "durable": True}}, "redis.durable, redis.prefix are without effect"),
        ({"redis": {"url": "redis://x", "tls_ca_file": "a.pem"}}, "redis.url has no TLS (rediss://)"),
        ({"allow_open_network": True}, "allow_open_network is without effect"),
        ({"auth": {"hmac_secret": SECRET, "jwks_ttl": 5}}, "auth.jwks_ttl is without effect"),
        ({"hooks": {"http": {"rpc": "http://b/"}}}, "hooks.http.secret is not set"),
        (
            {"workers": 1, "redis": {}, "socketio": {"emitters": {"enabled": True}}},
            "emitters.enabled is without effect",
        ),
        ({"hooks": {"http": {"timeout": 1}}}, "hooks.http.timeout is without effect: hooks.http has no URL"),
        ({"hooks": {"http": {"rpc": "http://b/", "timeout": 6}}}, "hooks.http.timeout is more than 5 s"),
        ({"hooks": {"http": {"rpc": "http://b/", "namespaces": ["user"]}}}, "no URL is for channels"),
        ({"drain": {"delay": 10, "window": 20}}, "drain.delay + drain.window"),
        ({"heartbeat": {"ping_interval": 90}}, "heartbeat.ping_interval"),
        ({"limits": {"keep_alive": 59}}, "limits.keep_alive is less than 60 s"),
        ({"redis": {"url": "redis://x", "publish_timeout": 10}}, "redis.publish_timeout"),
        ({"limits": {"outbox": 1024}}, "limits.outbox"),
        ({"api": {"keys": [KEY], "max_body": 1024}}, "api.max_body"),
    ],
)
def test_a_warning_names_the_settings(values: dict[str, Any], text: str) -> None:
    """What is half-set or probably not meant is said, and does not stop the start."""
    changed = settings(**{**SOUND, **values})
    found = checks.warnings(changed)
    assert any(text in warning for warning in found), found
    assert checks.errors(changed) == []


def test_hooks_let_clients_in() -> None:
    """Without keys and tokens."""
    for hooks in ({"python": "app:hooks"}, {"http": {"connect": "https://b/", "secret": SECRET}}):
        assert checks.warnings(settings(**{**SOUND, "auth": {}, "hooks": hooks})) == []


def test_open_modes_are_said_and_need_no_keys() -> None:
    """Whoever opens the gateway is told so, and not bothered with keys for what is open."""
    here = "everybody who reaches the listeners may connect"
    more = "; for development only. Pages of other origins may only if origins.allowed names them"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"no_auth": True}, f"no_auth: {here}, subscribe, publish and call the API{more}"),
        ({"no_auth": True, "api": {"keys": [KEY]}}, f"no_auth: {here}, subscribe, publish{more}"),
        ({"demo": True}, f"demo: {here} and use the channels demo:* and call the API"),
        ({"demo": True, "api": {"keys": [KEY]}}, f"demo: {here} and use the channels demo:*"),
    ]
    for values, warning in cases:
        assert checks.warnings(settings(**values)) == [warning]
    sound = {**SOUND, "auth": {"anonymous": True}, "api": {"insecure": True}, "listen": "127.0.0.1:8000"}
    assert checks.warnings(settings(**sound)) == []


@pytest.mark.parametrize(
    ("options", "without_effect"),
    [
        ({"allow_history": ["client"]}, "allow_history is"),
        ({"history_ttl": 5, "recovery": "cache"}, "channels.history_ttl, channels.recovery are"),
        ({"delivery": "latest", "allow_history": ["client"]}, "allow_history is"),
        ({"delivery": "recoverable", "announce_gaps": False}, "announce_gaps is"),
        ({"delivery": "recoverable", "history_size": 0}, "history_size = 0: there is no history to recover from"),
        ({"latest_ttl": 5}, "channels.latest_ttl is"),
        ({"delivery": "recoverable", "latest_key": "k", "latest_size": 5}, "latest_key, channels.latest_size are"),
        ({"delivery": "latest", "delta": True}, "delta is"),
        ({"allow_presence": ["subscriber"]}, "allow_presence is"),
        ({"join_leave_limit": 5}, "join_leave_limit is"),
        ({"join_leave": "clients", "leave_grace": 5}, "leave_grace is"),
    ],
)
def test_an_option_without_its_switch_is_said(options: dict[str, Any], without_effect: str) -> None:
    """Whoever sets it believes that it does something; in namespaces too."""
    (found,) = checks.warnings(settings(**SOUND, channels=options))
    assert without_effect in found
    assert found.startswith("channels.")
    (found,) = checks.warnings(settings(**{**SOUND, "namespaces": {"user": options}}))
    assert found.startswith("namespaces.user.")


@pytest.mark.parametrize(
    "options",
    [
        {"delivery": "recoverable", "allow_history": ["client"], "history_ttl": 5, "recovery": "cache"},
        {"history_size": 5, "history_ttl": 5},
        {"history_size": 0, "announce_gaps": True},
        {"delivery": "latest", "latest_key": "k", "latest_ttl": 5},
        {"delivery": "recoverable", "delta": True},
        {"presence": True, "allow_presence": ["client"]},
        {"join_leave": "users", "leave_grace": 5, "join_leave_limit": 5, "allow_presence": ["client"]},
        {"announce_gaps": False},
    ],
)
def test_an_option_with_its_switch_is_not(options: dict[str, Any]) -> None:
    """Nothing to say of what counts."""
    assert checks.warnings(settings(**SOUND, channels=options)) == []


def test_where_no_auth_opens_channels_they_have_a_history_and_presence() -> None:
    """So that their options count; demo does so for its own namespace."""
    options = {"allow_history": ["client"], "history_ttl": 5, "allow_presence": ["client"]}
    for values in ({"no_auth": True, "channels": options}, {"demo": True, "namespaces": {"demo": options}}):
        assert len(checks.warnings(settings(**values))) == 1
    assert len(checks.warnings(settings(demo=True, channels=options))) == 3


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Before a node starts and fails somewhere inside."""
    (tmp_path / "a.pem").touch()
    found = checks.unreadable(
        settings(tls={"certificate": tmp_path / "a.pem", "key": tmp_path / "b.pem"}, auth={"jwks_file": tmp_path})
    )
    assert found == [
        f"auth.jwks_file: {tmp_path} cannot be read: Is a directory",
        f"tls.key: {tmp_path}/b.pem cannot be read: No such file or directory",
    ]
