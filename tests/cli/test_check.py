"""`gateway check`"""

import tomllib
from pathlib import Path

import pytest
import redis

from tests.cli.conftest import Run
from tests.servers import valkey_server

SECRET = "0123456789abcdef0123456789abcdef"


SOUND = {
    "GATEWAY_AUTH__HMAC_SECRET": SECRET,
    "GATEWAY_API__KEYS": SECRET,
    "GATEWAY_ORIGINS__ALLOWED": "https://example.com",
}


def test_the_effective_settings_are_printed_without_secrets(run: Run) -> None:
    """As TOML on standard output, with the origin of what was given; the verdict goes to standard error."""
    Path("gateway.toml").write_text('node_name = "a"\n[redis]\nurl = "redis://:hush@redis"\n')
    result = run("check", "--all", "--workers", "2", **SOUND)
    assert result.exit_code == 0
    assert result.stderr == "The settings are valid; no warnings.\n\n"
    assert SECRET not in result.stdout
    assert "hush" not in result.stdout
    settings = tomllib.loads(result.stdout)
    assert (settings["workers"], settings["redis"]["url"]) == (2, "redis://:***@redis")
    for line in ('node_name = "a"  # gateway.toml', "workers = 2  # --workers", "# GATEWAY_AUTH__HMAC_SECRET"):
        assert line in result.stdout


def test_the_verdict_comes_first_and_then_what_differs(run: Run) -> None:
    """What is as by default, given or not, is left to --all."""
    result = run("check", "--redis-url", "redis://redis", GATEWAY_WORKERS="1", **SOUND)
    assert result.output.startswith("The settings are valid; no warnings.\n\n# Differs from the defaults; --all prints")
    assert tomllib.loads(result.stdout) == {
        "redis": {"url": "redis://redis"},
        "auth": {"hmac_secret": "***"},
        "api": {"keys": ["***"]},
        "origins": {"allowed": ["https://example.com"]},
    }
    assert 'url = "redis://redis"  # --redis-url\n' in result.stdout
    assert run("check").stdout == "# Nothing differs from the defaults; --all prints all settings.\n"


def test_warnings_do_not_fail_the_check(run: Run) -> None:
    """Half-set pairs, and variables of other programs, are said and counted."""
    result = run("check", "--no-auth", GATEWAY_AUTH__AUDIENCE="x", GATEWAY_TOKEN="hush")
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0] == "The settings are valid; 3 warnings."
    assert [line.partition(": ")[0] for line in lines[1:4]] == ["Warning"] * 3
    assert "Warning: auth.audience is set, but no key" in result.stderr
    assert "Warning: GATEWAY_TOKEN is not a variable of this gateway" in result.stderr
    assert "hush" not in result.output
    assert run("check", "--demo").stderr.startswith("The settings are valid; 1 warning.\n")


def test_connect_asks_redis(run: Run) -> None:
    """What it is, and what is wrong with it: errors fail the check as those of the settings do."""
    with valkey_server() as server:
        url = ("--redis-url", server.url)
        result = run("check", "--connect", *url, **SOUND)
        assert result.exit_code == 0
        assert "\nRedis: Valkey " in result.stderr
        with redis.Redis.from_url(server.url) as client:
            client.set("gw:{home}:partitions:0::", 16)
            client.config_set("maxmemory-policy", "allkeys-lru")
        result = run("check", "--connect", *url, **SOUND)
        assert result.exit_code == 1
        assert result.stderr.startswith("Nodes would not work with these settings: 1 error, 1 warning.\nError: redis.")
        assert "maxmemory-policy is allkeys-lru" in result.stderr
        assert run("check", *url, **SOUND).exit_code == 0
    result = run("check", "--connect", *url, **SOUND)
    assert (result.exit_code, "Error: redis.url: 127.0.0.1" in result.stderr) == (1, True)
    assert "no Redis to ask: redis.url is not set" in run("check", "--connect").stderr


def test_errors_fail_the_check(run: Run) -> None:
    """Bad values, settings that contradict each other, files that are not there, keys that are none."""
    Path("bad.toml").write_text("wrokers = 1")
    for args, environ, text in [
        (("bad.toml",), {}, "Error: wrokers = 1 (bad.toml): unknown setting, did you mean workers?"),
        (("--config", "bad.toml"), {}, "did you mean workers?"),
        (("missing.toml",), {}, "Error: missing.toml: the settings file cannot be read"),
        (("--workers", "2"), {}, "redis.url: not set"),
        (("--no-auth", "--listen", "0.0.0.0:8000"), {}, "allow_open_network"),
        ((), {"GATEWAY_AUTH__JWKS_FILE": "missing.json"}, "Error: auth.jwks_file: missing.json cannot be read"),
        ((), {"GATEWAY_AUTH__PUBLIC_KEY": "hello"}, "Error: auth.public_key: not the PEM text"),
        ((), {"GATEWAY_PERSONAL__NAMESPACE": "nope"}, "Error: personal.namespace: 'nope' is not among"),
        ((), {"GATEWAY_ORIGINS__ALLOWED": "https://*"}, "Error: origins.allowed: 'https://*' is not an origin"),
        ((), {"GATEWAY_TLS__CERTIFICATE": "bad.toml", "GATEWAY_TLS__KEY": "bad.toml"}, "Error: tls.certificate bad"),
        (
            ("--workers", "2", "--redis-url", "redis://x", "--internal-listen", "127.0.0.1:65535"),
            {},
            "Error: internal_listen = '127.0.0.1:65535': 2 workers need as many ports",
        ),
    ]:
        result = run("check", *args, **environ)
        assert result.exit_code == 1
        assert text in result.stderr
        assert "are valid" not in result.stderr
        # The settings would hide the errors.
        assert result.stdout == ""


def test_all_problems_of_the_parts_are_listed(run: Run) -> None:
    """Not only the first."""
    result = run("check", GATEWAY_AUTH__PUBLIC_KEY="hello", GATEWAY_PERSONAL__NAMESPACE="nope")
    assert result.stderr.count("Error: ") == 2


def test_the_file_is_given_once(run: Run) -> None:
    """As the argument or as an option."""
    Path("a.toml").write_text("")
    result = run("check", "a.toml", "--config", "a.toml")
    assert result.exit_code == 2
    assert "one of FILE and --config" in result.stderr


def test_open_modes_need_a_second_flag_on_a_network(run: Run) -> None:
    """In so many words."""
    flags = ("--demo", "--no-auth", "--listen", "0.0.0.0:8000")
    assert run("check", *flags).exit_code == 1
    assert run("check", *flags, "--allow-open-network").exit_code == 0


def test_the_code_of_an_application_has_to_fit_the_settings(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hooks and its models, as those of --hooks; with the namespaces that it gives to its Gateway()."""
    monkeypatch.syspath_prepend(tmp_path)
    for module, code in (
        ("fits", "@hooks.subscribe('room')\nasync def may(request): ..."),
        ("hook", "@hooks.subscribe('rooms')\nasync def may(request): ..."),
        ("model", "hooks.payload('rooms', int)"),
    ):
        monkeypatch.setattr("gateway.embedding._made", [])
        (tmp_path / f"check_{module}.py").write_text(
            f"from gateway import Gateway, Hooks\nhooks = Hooks()\n{code}\n"
            "app = Gateway({'namespaces': {'room': {}}}, hooks=hooks)\n"
        )
        result = run("check", "--app", f"check_{module}:app", **SOUND)
        assert result.exit_code == int(module != "fits")
        assert ("there is no namespace 'rooms' (namespaces.rooms)" in result.stderr) == (module != "fits")
