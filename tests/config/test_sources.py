"""Settings from a file, the environment and flags: what is wrong stops the start, and nothing secret is shown."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from gateway.config import sources
from gateway.config.settings import ServerSettings
from gateway.errors import ConfigError

SECRET = "correct-horse-battery-staple-0123456789"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str = "", flags: Mapping[str, Any] | None = None, /, **environ: str) -> ServerSettings:
    path = None
    if text:
        path = Path("settings.toml")
        path.write_text(text)
    return sources.read(path, flags or {}, environ).settings


def refusal(text: str = "", flags: Mapping[str, Any] | None = None, /, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, flags, **environ)
    return str(caught.value)


# Bad values


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("GATEWAY_WORKERS", "abc", "workers = 'abc' (GATEWAY_WORKERS): expected a whole number from 1 to 256"),
        ("GATEWAY_WORKERS", "", "workers = '' (GATEWAY_WORKERS): expected a whole number from 1 to 256"),
        ("GATEWAY_WORKERS", "1.5", "expected a whole number from 1 to 256"),
        ("GATEWAY_WORKERS", "257", "expected a whole number from 1 to 256"),
        ("GATEWAY_WORKERS", "٣x", "expected a whole number"),
        ("GATEWAY_NO_AUTH", "maybe", "no_auth = 'maybe' (GATEWAY_NO_AUTH): expected true or false"),
        ("GATEWAY_NO_AUTH", "", "expected true or false"),
        ("GATEWAY_LISTEN", "8000", "listen[0] = '8000' (GATEWAY_LISTEN): expected HOST:PORT, for"),
        ("GATEWAY_LISTEN", "", "listen = nothing (GATEWAY_LISTEN): expected one or more, each: HOST:PORT"),
        ("GATEWAY_LISTEN", "::1:8000", "expected HOST:PORT"),
        ("GATEWAY_LISTEN", "127.0.0.1:70000", "expected HOST:PORT"),
        ("GATEWAY_LISTEN", "unix:", "expected HOST:PORT"),
        ("GATEWAY_LISTEN", "[::1]", "expected HOST:PORT"),
        ("GATEWAY_LISTEN", "*", "expected HOST:PORT"),
        ("GATEWAY_LISTEN", "*:1,", "listen[1] = ''"),
        ("GATEWAY_LISTEN", f"{'a' * 64}.example:1", "1 to 63 between dots"),
        ("GATEWAY_LISTEN", "10.0.0.256:1", "not an IPv4 address"),
        ("GATEWAY_LISTEN", "[]", "expected one or more"),
        ("GATEWAY_INTERNAL_LISTEN", ":9000", "expected HOST:PORT"),
        ("GATEWAY_LOG__LEVEL", "loud", "expected one of debug, info, warning, error"),
        ("GATEWAY_LOG__LEVEL", "INFO", "expected one of debug, info, warning, error"),
        ("GATEWAY_REDIS__PREFIX", "a b", "redis.prefix = 'a b' (GATEWAY_REDIS__PREFIX): expected a text that matches"),
        ("GATEWAY_REDIS__CONNECT_TIMEOUT", "0", "expected a number above 0 to 31536000"),
        ("GATEWAY_REDIS__CONNECT_TIMEOUT", "nan", "expected a number above 0 to 31536000"),
        ("GATEWAY_REDIS__CONNECT_TIMEOUT", "inf", "expected a number above 0 to 31536000"),
        ("GATEWAY_DRAIN__WINDOW", "-1", "expected a number from 0 to 31536000"),
        ("GATEWAY_HEARTBEAT__PONG_TIMEOUT", "30", "heartbeat (GATEWAY_HEARTBEAT__PONG_TIMEOUT): pong_timeout must be"),
        ("GATEWAY_TLS__KEY", "", "expected the path of a file"),
        ("GATEWAY_AUTH__AUDIENCE", "", "expected a text, not empty"),
        ("GATEWAY_AUTH__JWKS_URL", "file:///etc/passwd", "= *** (GATEWAY_AUTH__JWKS_URL): expected https://HOST"),
        (
            "GATEWAY_TRUSTED_PROXIES",
            "10.0.0.0/8,proxy",
            "trusted_proxies[1] = 'proxy' (GATEWAY_TRUSTED_PROXIES): expec",
        ),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8,", "trusted_proxies[1] = '' "),
        ("GATEWAY_ORIGINS__ALLOWED", "example.com", "expected SCHEME://HOST[:PORT] without a path"),
        ("GATEWAY_ORIGINS__ALLOWED", "https://example.com/", "expected SCHEME://HOST[:PORT] without a path"),
        ("GATEWAY_CHANNELS__ALLOW_PUBLISH", "everybody", "expected one of client, subscriber, anonymous"),
        ("GATEWAY_NAMESPACES__chat__DELIVERY", "best", "namespaces.chat.delivery = 'best' (GATEWAY_NAMESPACES__chat__"),
        ("GATEWAY_NAMESPACES__a b__DELIVERY", "live", "the name of a namespace must match ^[A-Za-z0-9_.-]{1,64}$"),
        ("GATEWAY_REDIS", "{", "GATEWAY_REDIS = ***: expected a JSON object"),
        ("GATEWAY_DRAIN", "[]", "GATEWAY_DRAIN = '[]': expected a JSON object"),
        ("GATEWAY_DRAIN", "[" * 100_000, "expected a JSON object"),
        ("GATEWAY_TRUSTED_PROXIES", "[", "GATEWAY_TRUSTED_PROXIES = '[': expected a JSON array"),
        ("GATEWAY_TRUSTED_PROXIES", "[{}]", "trusted_proxies[0] (GATEWAY_TRUSTED_PROXIES): expected an address"),
        ("GATEWAY_NODE_NAME", "a\udcff", r"node_name = 'a\udcff'"),
        ("GATEWAY_NODE_NAME", "a\x1b[31m\n", r"node_name = 'a\x1b[31m\n'"),
    ],
)
def test_a_bad_variable_is_named_with_its_value_and_what_is_allowed(variable: str, value: str, message: str) -> None:
    """One line: setting, value, variable, and what would be right."""
    assert message in refusal(**{variable: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen = 8000", "listen = 8000 (settings.toml): expected a list; each: HOST:PORT, *:PORT or unix:PATH"),
        ("listen.port = 1", "listen (settings.toml): expected a list; each: HOST:PORT, *:PORT or unix:PATH"),
        ("workers = true", "workers = True (settings.toml): expected a number"),
        ("workers = 1979-05-27", "workers = datetime.date(1979, 5, 27) (settings.toml): expected a whole number"),
        ("redis = 5", "redis = *** (settings.toml): expected a section"),
        ("[[redis]]", "redis = a list (settings.toml): expected a section"),
        ("drain = 'x'", "drain = 'x' (settings.toml): expected a section"),
        ("namespaces = ['chat']", "namespaces = a list (settings.toml): expected a section"),
        ("[drain]\nwindow = true", "drain.window = True (settings.toml): expected a number"),
        ("[tls]\nkey = 5", "tls.key = 5 (settings.toml): expected the path of a file"),
        ("[origins]\nallowed = '*'", "origins.allowed = '*' (settings.toml): expected a list; each: a text"),
        (f"node_name = '{'x' * 500}'", "..."),
    ],
)
def test_a_bad_value_in_the_file_names_key_and_file(text: str, message: str) -> None:
    """Types are not guessed, and long values are cut."""
    assert message in refusal(text)


def test_a_bad_flag_is_named_as_it_is_typed() -> None:
    """A flag stands in the message with its dashes."""
    assert refusal("", {"redis.connect_timeout": "x"}).startswith("redis.connect_timeout = 'x' (--redis-connect-time")


def test_all_problems_are_listed_at_once() -> None:
    """Nobody has to start ten times to find ten mistakes."""
    message = refusal("wrokers = 1\nlisten = 1", {"log.level": "x"}, GATEWAY_WORKERS="x", GATEWAY_NODE_NAM="1")
    lines = message.splitlines()
    assert lines[0] == "5 problems in the settings:"
    assert len(lines) == 6
    assert all(line.startswith("  ") for line in lines[1:])


# Unknown settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrokers = 2", "wrokers = 2 (settings.toml): unknown setting, did you mean workers?"),
        ("WORKERS = 2", "WORKERS = 2 (settings.toml): unknown setting, did you mean workers?"),
        ("hmac_secret = 'x'", "hmac_secret = *** (settings.toml): unknown setting, did you mean auth.hmac_secret?"),
        ("[redis]\nprefx = 'gw'", "redis.prefx = 'gw' (settings.toml): unknown setting, did you mean redis.prefix?"),
        ("[redys]\nx = 1", "redys = a section (settings.toml): unknown setting, did you mean redis?"),
        ("[namespaces.chat]\ndelivry = 'live'", "unknown setting, did you mean namespaces.chat.delivery?"),
        ("zzz = 'qqq'", "zzz = *** (settings.toml): unknown setting"),
        ('"a\\u001bb" = 1', r"'a\x1bb' = *** (settings.toml): unknown setting"),
    ],
)
def test_an_unknown_key_gets_the_likely_one(text: str, message: str) -> None:
    """A misspelt key says what was probably meant."""
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("GATEWAY_WROKERS", "GATEWAY_WROKERS = '1': unknown variable, did you mean GATEWAY_WORKERS?"),
        ("GATEWAY_REDIS_PREFIX", "unknown variable, did you mean GATEWAY_REDIS__PREFIX?"),
        ("GATEWAY_LISTNE", "unknown variable, did you mean GATEWAY_LISTEN?"),
        ("GATEWAY_LISTEN__X", "unknown variable"),
        ("GATEWAY_REDIS__NOPE__X", "unknown variable"),
        ("GATEWAY_REDIS__QQQQQQ", "GATEWAY_REDIS__QQQQQQ = "),
        ("GATEWAY_LIMIT__CHANNELS", "unknown variable, did you mean GATEWAY_LIMITS__CHANNELS?"),
        ("GATEWAY_API_KEYS", "GATEWAY_API_KEYS = ***: unknown variable, did you mean GATEWAY_API__KEYS?"),
        ("GATEWAY___WORKERS", "unknown variable"),
        ("GATEWAY_ISSUER", "GATEWAY_ISSUER = '1': unknown variable, did you mean GATEWAY_AUTH__ISSUER?"),
        ("GATEWAY_JWKS_URL", "GATEWAY_JWKS_URL = ***: unknown variable, did you mean GATEWAY_AUTH__JWKS_URL?"),
        ("GATEWAY_HMAC_SECRET", "= ***: unknown variable, did you mean GATEWAY_AUTH__HMAC_SECRET?"),
        ("GATEWAY_WORKER\x1b", r"'GATEWAY_WORKER\x1b'"),
        ("GATEWAY_TLS_CERT", "GATEWAY_TLS_CERT = '1': unknown variable, did you mean GATEWAY_TLS__CERTIFICATE?"),
        ("GATEWAY_TLS_KEY", "GATEWAY_TLS_KEY = ***: unknown variable, did you mean GATEWAY_TLS__KEY?"),
        ("GATEWAY_ALLOWED_ORIGINS", "did you mean GATEWAY_ORIGINS__ALLOWED?"),
        ("GATEWAY_LISTEN_INTERNAL", "did you mean GATEWAY_INTERNAL_LISTEN?"),
        ("GATEWAY_LIMIT__QQQQ", "GATEWAY_LIMIT__QQQQ = "),
        ("GATEWAY_NODENAME", "did you mean GATEWAY_NODE_NAME?"),
        ("GATEWAY_NOED_NAME", "did you mean GATEWAY_NODE_NAME?"),
        ("GATEWAY_NAMESPACE_chat_USER_LIMITED", "did you mean GATEWAY_NAMESPACES__chat__USER_LIMITED?"),
        ("GATEWAY_NAMESPACES_CHAT_USER_LIMITED", "did you mean GATEWAY_NAMESPACES__CHAT__USER_LIMITED?"),
        ("GATEWAY_NAMESPACE__chat__DELIVERY", "did you mean GATEWAY_NAMESPACES__chat__DELIVERY?"),
        ("GATEWAY_NAMESPACES_chat_ALLOW_PUBLISH", "did you mean GATEWAY_NAMESPACES__chat__ALLOW_PUBLISH?"),
        ("GATEWAY_NAMESPACES__chat__DELIVRY", "did you mean GATEWAY_NAMESPACES__chat__DELIVERY?"),
        ("GATEWAY_NAMESPACES__chat__QQQQ", " = ***: unknown variable, did you mean GATEWAY_NAMESPACES__chat__OPTION?"),
        ("GATEWAY_NAMESPACE__chat", " = ***: unknown variable, did you mean GATEWAY_NAMESPACES__chat?"),
        ("GATEWAY_NAMESPACES__DELIVERY__", "unknown variable"),
        ("GATEWAY_NAMESPACE__a\x1b__DELIVERY", r"did you mean 'GATEWAY_NAMESPACES__a\x1b__DELIVERY'?"),
    ],
)
def test_a_misspelt_variable_stops_the_start(variable: str, message: str) -> None:
    """Were it let pass, the operator would believe it set: it resembles a setting, or names a section of ours."""
    assert message in refusal(**{variable: "1"})


@pytest.mark.parametrize("name", ["NAMESPACE", "ORIGIN"])
def test_json_for_a_misspelt_section_stops_the_start(name: str) -> None:
    assert f"did you mean GATEWAY_{name}S?" in refusal(**{f"GATEWAY_{name}": ' {"chat": {}}'})


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("GATEWAY_TOKEN", "GATEWAY_TOKEN is not a variable of this gateway and is ignored; see docs/settings.md"),
        ("GATEWAY_PORT", "is ignored; the address is GATEWAY_LISTEN=HOST:PORT"),
        ("GATEWAY_HOST", "is ignored; the address is GATEWAY_LISTEN=HOST:PORT"),
        ("GATEWAY_ROUTES__BACKEND", "is ignored"),
        ("GATEWAY_REDIS_PORT", "is ignored"),
        ("GATEWAY_QQQQQQ", "is ignored"),
        ("GATEWAY_NAME", "is ignored"),
        ("GATEWAY_NAMESPACE_PREFIX", "is ignored"),
        # The downward API of Kubernetes, and labels.
        ("GATEWAY_POD_NAME", "is ignored"),
        ("GATEWAY_NAMESPACE", "is ignored; did you mean GATEWAY_NAMESPACES?"),
        ("GATEWAY_NAMESPACE_ID", "is ignored"),
        ("GATEWAY_NAMESPACE_LABEL_PRESENCE", "is ignored; did you mean GATEWAY_NAMESPACES__LABEL__PRESENCE?"),
        ("GATEWAY_NAMESPACES_PORT", "is ignored"),
        ("GATEWAY_ORIGIN", "is ignored; did you mean GATEWAY_ORIGINS?"),
        ("GATEWAY_API_SECRET", "is ignored; see docs/settings.md"),
        ("GATEWAY_TLS_CERT_FILE", "is ignored; did you mean GATEWAY_TLS__CERTIFICATE?"),
        ("GATEWAY_MAX_CONNECTIONS", "is ignored; did you mean GATEWAY_LIMITS__CONNECTIONS?"),
        ("GATEWAY_", "is ignored"),
        ("GATEWAY_A\x1b", r"'GATEWAY_A\x1b' is not"),
        ("GATEWAY_API_KEY", "nodes take their keys from GATEWAY_API__KEYS"),
    ],
)
def test_a_variable_of_another_program_is_warned_of(variable: str, message: str) -> None:
    """Environments are shared: it does not stop the start, and its value, which may be a secret, is not shown."""
    loaded = sources.read(None, {}, {variable: "hush-hush"})
    (warning,) = loaded.warnings
    assert message in warning
    assert "hush" not in warning
    assert loaded.settings == ServerSettings()


def test_a_key_for_commands_needs_no_word_where_the_node_has_keys() -> None:
    """GATEWAY_API_KEY beside GATEWAY_API__KEYS."""
    key = "0123456789abcdef0123456789abcdef"
    assert sources.read(None, {}, {"GATEWAY_API_KEY": key, "GATEWAY_API__KEYS": key}).warnings == ()


def test_one_setting_under_two_spellings_of_a_variable_is_refused() -> None:
    """Which of the two counts would be chance."""
    assert (
        refusal(GATEWAY_WORKERS="1", GATEWAY_workers="2") == "GATEWAY_workers: sets the same setting as GATEWAY_WORKERS"
    )


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"GATEWAY_NAMESPACES__CHAT__DELIVERY": "latest"},
            "GATEWAY_NAMESPACES__CHAT__DELIVERY: makes a namespace 'CHAT' beside 'chat'; their names keep their case, "
            "did you mean GATEWAY_NAMESPACES__chat__DELIVERY?",
        ),
        (
            {"GATEWAY_NAMESPACES": '{"Chat": {}}'},
            "GATEWAY_NAMESPACES: makes a namespace 'Chat' beside 'chat'; their names keep their case",
        ),
        (
            {"GATEWAY_NAMESPACES__News__DELIVERY": "latest", "GATEWAY_NAMESPACES__NEWS__PRESENCE": "true"},
            "GATEWAY_NAMESPACES__NEWS__PRESENCE: makes a namespace 'NEWS' beside 'News'; their names keep their case, "
            "did you mean GATEWAY_NAMESPACES__News__PRESENCE?",
        ),
    ],
)
def test_a_variable_in_capitals_makes_no_second_namespace(environ: dict[str, str], message: str) -> None:
    """It was meant for the one that there is. In a file, where nobody writes in capitals by habit, there may be two."""
    assert refusal("[namespaces.chat]", **environ) == message
    assert set(load("[namespaces.chat]\n[namespaces.CHAT]").namespaces) == {"chat", "CHAT"}
    same = load("[namespaces.chat]\n[namespaces.CHAT]", GATEWAY_NAMESPACES__chat__DELIVERY="latest")
    assert same.namespaces["chat"].delivery == "latest"


def test_variables_that_kubernetes_injects_are_ignored() -> None:
    """For Services named gateway, gateway-redis and gateway-internal."""
    settings = load(
        GATEWAY_SERVICE_HOST="10.0.0.1",
        GATEWAY_SERVICE_PORT="80",
        GATEWAY_SERVICE_PORT_HTTP="80",
        GATEWAY_PORT="tcp://10.0.0.1:80",
        GATEWAY_PORT_8000_TCP="tcp://10.0.0.1:8000",
        GATEWAY_PORT_8000_TCP_PROTO="tcp",
        GATEWAY_PORT_8000_TCP_PORT="8000",
        GATEWAY_PORT_8000_TCP_ADDR="10.0.0.1",
        GATEWAY_PORT_53_UDP="udp://10.0.0.1:53",
        GATEWAY_REDIS_SERVICE_HOST="10.0.0.2",
        GATEWAY_REDIS_SERVICE_PORT="6379",
        GATEWAY_REDIS_PORT="tcp://10.0.0.2:6379",
        GATEWAY_REDIS_PORT_6379_TCP_ADDR="10.0.0.2",
        GATEWAY_INTERNAL_SERVICE_PORT_METRICS="9000",
        PATH="/bin",
        GATEWAYS="x",
    )
    assert settings == ServerSettings()


# Secrets


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (f"[auth]\nhmac_secret = ['{SECRET}']", {}),
        (f"[auth]\nhmac_secert = '{SECRET}'", {}),
        (f"[auth]\ncookie_secret = '{SECRET}'", {}),
        (f"[redis]\nurl = 'http://:{SECRET}@host'", {}),
        (f"redis = '{SECRET}'", {}),
        (f"[api]\nkeys = '{SECRET}'", {}),
        (f"[[api]]\nkeys = '{SECRET}'", {}),
        (f"[api]\nkeys = [['{SECRET}']]", {}),
        (f"apikey = '{SECRET}'", {}),
        (f"{SECRET} = '{SECRET}'", {}),
        ("", {"GATEWAY_REDIS__URL": f"http://:{SECRET}@host"}),
        ("", {"GATEWAY_REDIS_URL": f"redis://:{SECRET}@host"}),
        ("", {"GATEWAY_REDIS": f'{{"url": "{SECRET}'}),
        ("", {"GATEWAY_API__KEYS": f'["{SECRET}"'}),
        ("", {"GATEWAY_API__KEY": SECRET}),
        ("", {"GATEWAY_AUTH": f'["{SECRET}"]'}),
        ("", {"GATEWAY_AUTH__HMAC_SECRET": SECRET[:20]}),
    ],
)
def test_no_message_shows_a_secret(text: str, environ: dict[str, str]) -> None:
    """Not under its right name, not under a misspelt one, not inside a value of another type."""
    message = refusal(text, **environ)
    assert SECRET[:20] not in message.replace(f"{SECRET} = ", "").replace(f" {SECRET} ", "")


@pytest.mark.parametrize(
    "variable",
    [
        "GATEWAY_AUTH__HMAC_SECRET",
        "GATEWAY_AUTH__HMAC_SECRET_PREVIOUS",
        "GATEWAY_AUTH__PUBLIC_KEY",
        "GATEWAY_REDIS__URL",
    ],
)
def test_an_empty_secret_is_no_secret(variable: str) -> None:
    """An empty HMAC key would let anybody sign tokens; a forgotten variable must not pass for a key."""
    assert f"({variable}): expected" in refusal(**{variable: ""})


@pytest.mark.parametrize("value", [",", "a,,b", '[""]', "a,"])
def test_an_empty_api_key_is_no_key(value: str) -> None:
    """Otherwise an empty X-API-Key would open the API."""
    assert "(GATEWAY_API__KEYS): expected a text, not empty" in refusal(GATEWAY_API__KEYS=value)


# The file


def test_a_syntax_error_names_the_line() -> None:
    """The reader finds the mistake without a TOML linter."""
    assert refusal("workers = 1\n[redis\n") == (
        "settings.toml: not TOML: Expected ']' at the end of a table declaration (at line 2, column 7)"
    )


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """Missing, a folder, not text: each is said."""
    (tmp_path / "binary").write_bytes(b"workers = 1 # \xff")
    for name, reason in [("missing", "No such file or directory"), ("", "Is a directory"), ("binary", "at byte 14")]:
        with pytest.raises(ConfigError, match=reason):
            sources.read(tmp_path / name, {}, {})
    nested = "x = " + "[" * 100_000
    assert "not TOML" in refusal(nested)


def test_the_file_is_given_named_by_a_variable_or_found() -> None:
    """A flag beats GATEWAY_CONFIG, which beats ./gateway.toml; a named one has to exist, the found one not."""
    assert sources.read(None, {}, {}).settings.workers == 1
    Path("gateway.toml").write_text("node_name = 'found'")
    Path("b.toml").write_text("node_name = 'named'")
    Path("c.toml").write_text("node_name = 'given'")
    assert sources.read(None, {}, {}).settings.node_name == "found"
    assert sources.read(None, {}, {"GATEWAY_CONFIG": "b.toml"}).settings.node_name == "named"
    assert sources.read(Path("c.toml"), {}, {"GATEWAY_CONFIG": "b.toml"}).settings.node_name == "given"
    with pytest.raises(ConfigError, match="cannot be read"):
        sources.read(None, {}, {"GATEWAY_CONFIG": "d.toml"})
    with pytest.raises(ConfigError, match="GATEWAY_CONFIG is empty"):
        sources.read(None, {}, {"GATEWAY_CONFIG": ""})


# What is right


def test_flags_beat_the_environment_which_beats_the_file() -> None:
    """Each source overrides single settings and leaves the neighbours."""
    settings = load(
        "node_name = 'file'\n[redis]\nprefix = 'file'\npartitions = 4\npending_limit = 5",
        {"redis.prefix": "flag", "node_name": None},
        GATEWAY_REDIS__PREFIX="environment",
        GATEWAY_REDIS__PARTITIONS="8",
    )
    redis = settings.redis
    assert (settings.node_name, redis.prefix, redis.partitions, redis.pending_limit) == ("file", "flag", 8, 5)


@pytest.mark.parametrize(
    ("given", "listen"),
    [
        ("[::]:8000", ("[::]:8000",)),
        ("[::1]:80, *:81,unix:/a b", ("[::1]:80", "*:81", "unix:/a b")),
        ('["[::1]:80", "unix:/a,b"]', ("[::1]:80", "unix:/a,b")),
    ],
)
def test_several_addresses(given: str, listen: tuple[str, ...]) -> None:
    """A bracket begins an IPv6 address as well as a list. A flag has commas, a file a text or a list."""
    assert load(GATEWAY_LISTEN=given).listen == listen
    if "," not in listen[-1]:
        assert sources.read(None, {"listen": given}, {}).settings.listen == listen
        assert load(f"listen = '{given}'").listen == listen
    assert load(f"listen = {list(listen)}").listen == listen
    assert load(GATEWAY_INTERNAL_LISTEN="").internal_listen == ()


def test_lists_come_with_commas_or_as_json() -> None:
    """Spaces around commas do not count; an empty variable is an empty list."""
    settings = load(
        GATEWAY_API__KEYS=f"{SECRET}, {SECRET[::-1]}",
        GATEWAY_TRUSTED_PROXIES='["10.0.0.0/8", "::1"]',
        GATEWAY_ORIGINS__ALLOWED="",
        GATEWAY_CHANNELS__ALLOW_SUBSCRIBE="client,anonymous",
    )
    assert [key.get_secret_value() for key in settings.api.keys] == [SECRET, SECRET[::-1]]
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert settings.origins.allowed == ()
    assert settings.channels.allow_subscribe == ("client", "anonymous")


def test_namespaces_come_from_variables() -> None:
    """Their names keep their case and may hold underscores; a whole one may be JSON, single options override it."""
    settings = load(
        "[namespaces.Chat]\nuser_limited = true",
        GATEWAY_NAMESPACES__Chat__DELIVERY="latest",
        GATEWAY_NAMESPACES__my__room__ALLOW_PUBLISH="client",
        GATEWAY_NAMESPACES__news='{"delivery": "latest", "user_limited": true}',
        GATEWAY_NAMESPACES__news__DELIVERY="recoverable",
    )
    assert set(settings.namespaces) == {"Chat", "my__room", "news"}
    assert (settings.namespaces["Chat"].delivery, settings.namespaces["Chat"].user_limited) == ("latest", True)
    assert settings.namespaces["my__room"].allow_publish == ("client",)
    assert (settings.namespaces["news"].delivery, settings.namespaces["news"].user_limited) == ("recoverable", True)


def test_a_section_in_the_environment_replaces_nonsense_in_the_file() -> None:
    """A source of higher precedence counts even where the file has another type."""
    assert load("redis = 5", GATEWAY_REDIS__PREFIX="x").redis.prefix == "x"
    assert load(GATEWAY_REDIS='{"prefix": {}}', GATEWAY_REDIS__PREFIX="x").redis.prefix == "x"
    assert load(GATEWAY_NAMESPACES='{"a": 5}', GATEWAY_NAMESPACES__a__USER_LIMITED="1").namespaces["a"].user_limited


def test_every_setting_given_has_its_origin() -> None:
    """`gateway check` tells where a value comes from."""
    Path("gateway.toml").write_text(
        "workers = 1\n[redis]\nprefix = 'a'\npartitions = 2\n[namespaces.x]\nuser_limited=true"
    )
    loaded = sources.read(None, {"log.level": "debug"}, {"GATEWAY_REDIS__PREFIX": "b", "GATEWAY_DRAIN": '{"delay": 1}'})
    assert loaded.origins == {
        "workers": "gateway.toml",
        "redis.prefix": "GATEWAY_REDIS__PREFIX",
        "redis.partitions": "gateway.toml",
        "log.level": "--log-level",
        "drain.delay": "GATEWAY_DRAIN",
        "namespaces.x.user_limited": "gateway.toml",
    }


def test_no_source_gives_the_defaults() -> None:
    """And nothing of this process's own environment is read behind the caller's back."""
    os.environ["GATEWAY_WORKERS"] = "7"
    try:
        assert sources.read(None, {}, {}).settings == ServerSettings()
    finally:
        del os.environ["GATEWAY_WORKERS"]


@seed(7)
@given(
    st.dictionaries(
        st.sampled_from(
            ["", "REDIS", "REDIS__URL", "API__KEYS", "NAMESPACES", "NAMESPACES__a", "LISTEN", "AUTH__LEEWAY"]
        )
        | st.text(min_size=1, max_size=12),
        st.text(max_size=20) | st.sampled_from(["[", "{}", "[]", "[[]]", '{"a":1}', "null", "1e999"]),
        max_size=4,
    )
)
def test_whatever_the_environment_holds_the_answer_is_settings_or_a_config_error(environ: dict[str, str]) -> None:
    """Never another exception."""
    try:
        message = str(sources.read(None, {}, {f"GATEWAY_{name}": value for name, value in environ.items()}).settings)
    except ConfigError as error:
        message = str(error)
    assert all(line.isprintable() for line in message.split("\n"))
