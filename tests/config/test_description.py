"""The effective settings as TOML."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from gateway.config import sources
from gateway.config.description import describe, mask_url
from gateway.config.settings import ServerSettings

SECRET = "0123456789abcdef0123456789abcdef"


def test_secrets_are_masked_and_the_rest_is_readable() -> None:
    """What `gateway check` prints can be pasted into a bug report."""
    settings = ServerSettings.model_validate(
        {
            "redis": {"url": f"redis://me:{SECRET}@redis:6379/2"},
            "auth": {"hmac_secret": SECRET, "jwks_url": f"https://me:{SECRET}@example.com/keys?k={SECRET}"},
            "api": {"keys": [SECRET, SECRET]},
            "namespaces": {"a.b": {"delivery": "latest"}},
        }
    )
    text = describe(settings, {"redis.url": "GATEWAY_REDIS__URL", "api.keys": "a\nb"})
    assert SECRET not in text
    assert 'url = "redis://me:***@redis:6379/2"  # GATEWAY_REDIS__URL' in text
    assert 'jwks_url = "https://me:***@example.com/keys?***"\n' in text
    assert 'hmac_secret = "***"\n' in text
    assert 'keys = ["***", "***"]  # \'a\\nb\'' in text
    assert '[namespaces."a.b"]\ndelivery = "latest"' in text
    assert "# public_key is not set\n" in text


def test_only_what_differs_from_the_defaults() -> None:
    """Not what was given and is the default; a namespace exists or not, whatever its options."""
    settings = ServerSettings.model_validate(
        {"workers": 1, "redis": {"prefix": "gw"}, "limits": {"channels": 7}, "namespaces": {"a": {}, "b": {"delta": 1}}}
    )
    origins = {"limits.channels": "gateway.toml"}
    assert describe(settings, origins, everything=False) == (
        "[limits]\nchannels = 7  # gateway.toml\n\n[namespaces.a]\n\n[namespaces.b]\ndelta = true\n"
    )
    assert describe(ServerSettings(), everything=False) == ""


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://host", "redis://host"),
        ("redis://:secret@host:1/0", "redis://:***@host:1/0"),
        ("redis://user@host", "redis://***@host"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?***"),
        ("https://example.com/a?b#c", "https://example.com/a?***"),
        ("-----BEGIN ://", "***"),
    ],
)
def test_urls_show_where_they_lead_and_no_login(url: str, masked: str) -> None:
    """A login without a password may be a token."""
    assert mask_url(url) == masked


def test_the_description_loads_again(tmp_path: Path) -> None:
    """It is TOML of the same settings."""
    settings = ServerSettings.model_validate(
        {
            "trusted_proxies": ["10.0.0.0/8"],
            "drain": {"delay": 1.5},
            "namespaces": {"chat": {}},
            "tls": {},
            "socketio": {"events": {"message": "chat:a", 'two "words"': "b"}, "namespaces": {"/admin": {}}},
        }
    )
    path = tmp_path / "again.toml"
    path.write_text(describe(settings))
    assert sources.read(path, {}, {}).settings == settings


@seed(11)
@given(st.text())
def test_any_text_survives(text: str) -> None:
    """Quotes, backslashes, control characters and line breaks do not break the TOML."""
    settings = ServerSettings.model_validate({"auth": {"cookie": text.replace("://", "")}})
    assert tomllib.loads(describe(settings))["auth"]["cookie"] == settings.auth.cookie
