"""`gateway check`"""

import tomllib
from pathlib import Path

from tests.cli.conftest import Run

SECRET = "0123456789abcdef0123456789abcdef"


def test_the_effective_settings_are_printed_without_secrets(run: Run) -> None:
    """As TOML on standard output, with the origin of what was given; the verdict goes to standard error."""
    Path("gateway.toml").write_text('node_name = "a"\n[redis]\nurl = "redis://:hush@redis"\n')
    result = run("check", "--workers", "2", GATEWAY_AUTH__HMAC_SECRET=SECRET, GATEWAY_API__KEYS=SECRET)
    assert result.exit_code == 0
    assert result.stderr == "The settings are valid; no warnings.\n"
    assert SECRET not in result.stdout
    assert "hush" not in result.stdout
    settings = tomllib.loads(result.stdout)
    assert (settings["workers"], settings["redis"]["url"]) == (2, "redis://:***@redis")
    for line in ('node_name = "a"  # gateway.toml', "workers = 2  # --workers", "# GATEWAY_AUTH__HMAC_SECRET"):
        assert line in result.stdout


def test_warnings_do_not_fail_the_check(run: Run) -> None:
    """Half-set pairs are said and counted."""
    result = run("check", GATEWAY_AUTH__AUDIENCE="x")
    assert result.exit_code == 0
    assert "Warning: auth.audience is set, but no key" in result.stderr
    assert "Warning: nobody can connect" in result.stderr
    assert result.stderr.endswith("The settings are valid; 3 warnings.\n")
    assert run("check", GATEWAY_AUTH__HMAC_SECRET=SECRET).stderr.endswith("; 1 warning.\n")


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
    ]:
        result = run("check", *args, **environ)
        assert result.exit_code == 1
        assert text in result.stderr
        assert "are valid" not in result.stderr


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
