"""Which pages may open connections."""

import pytest

from gateway.auth.origins import OriginPolicy
from gateway.config.settings import OriginSettings
from gateway.errors import ConfigError


def policy(*allowed: str, required: bool | None = None, cookie: str = "") -> OriginPolicy:
    return OriginPolicy(OriginSettings(allowed=allowed, required=required), cookie)


def allows(origin: str | None, *allowed: str) -> bool:
    return policy(*allowed).check(origin) is None


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com", "HTTPS://EXAMPLE.COM"),
        ("https://Example.com", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("https://example.com", "https://example.com:443"),
        ("http://example.com:80", "http://example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://*.example.com", "https://chat.example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "https://anything.example"),
        ("*", "null"),
        ("*", "not an origin"),
    ],
)
def test_allowed_origins_pass(allowed: str, origin: str) -> None:
    """Case and default ports do not matter; a wildcard stands for one label or more."""
    assert allows(origin, allowed)


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com.evil.com",
        "https://evil-example.com",
        "https://evilexample.com",
        "https://sub.example.com",
        "https://example.co",
        "https://xample.com",
        "https://example.com.",
        "https://example.com:8443",
        "https://example.com:",
        "https://example.com:0443x",
        "https://example.com:99999",
        "http://example.com",
        "ftp://example.com",
        "example.com",
        "//example.com",
        "https:example.com",
        "https:///example.com",
        "https://",
        "https://user@example.com",
        "https://example.com@evil.com",
        "https://evil.com#example.com",
        "https://evil.com?https://example.com",
        "https://evil.com/https://example.com",
        "https://example.com/",
        "https://evil.com\\.example.com",
        "https://example.com https://evil.com",
        "https://evil.com,https://example.com",
        "https://example.com\0",
        "https://example.com\x85",
        "https://\u0435xample.com",
        "https://[::1",
        "https://[]",
        "https://:443",
        " https://example.com",
        "null",
        "",
        "*",
        "https://*",
        "https://*.example.com",
        "https://" + "a" * 100_000 + ".example.com",
    ],
)
def test_everything_else_is_refused(origin: str) -> None:
    """Look-alikes, userinfo, paths, lists, other ports and schemes, garbage."""
    assert not allows(origin, "https://example.com")


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "https://.example.com",
        "https://evil.com",
        "https://chat.example.com.evil.com",
        "https://chatexample.com",
        "http://chat.example.com",
        "https://chat.example.com:8443",
        "https://chat.example.com.",
        "https://evil.com/.example.com",
        "https://evil.com#.example.com",
        "https://evil.com\\.example.com",
        "https://a@b.example.com",
        "null",
    ],
)
def test_a_wildcard_matches_labels_and_nothing_else(origin: str) -> None:
    """Not the apex, not another host that ends alike, not another scheme or port."""
    assert not allows(origin, "https://*.example.com")


def test_nothing_is_allowed_by_default() -> None:
    """A sent origin must be in the list, and the list is empty."""
    reason = policy().check("https://example.com")
    assert reason is not None
    assert "origins.allowed" in reason


def test_the_reason_names_the_origin() -> None:
    """It goes to the log: what a stranger sends is escaped and cut."""
    assert policy().check("https://app.example") == "origin https://app.example is not in origins.allowed"
    assert policy().check("a\nb\x1b[31m") == r"origin a\nb\x1b[31m is not in origins.allowed"
    reason = policy().check("x" * 100_000)
    assert reason is not None
    assert "(100000 characters)" in reason
    assert len(reason) < 400


def test_a_missing_origin_passes_unless_it_is_required() -> None:
    """Only browsers can be tricked, and they send it."""
    assert policy().check(None) is None
    reason = policy("*", required=True).check(None)
    assert reason is not None
    assert "origins.required" in reason


def test_cookies_make_the_origin_required() -> None:
    """A cookie is what a foreign page would abuse; the setting can say otherwise."""
    assert policy("*", cookie="token").check(None) is not None
    assert policy("*", cookie="token", required=False).check(None) is None
    assert policy("*", cookie="token").check("https://example.com") is None


@pytest.mark.parametrize("entry", ["https://example.com:port", "https://a.*.example.com", "https://*", "https://[::1"])
def test_an_entry_that_can_never_match_stops_the_start(entry: str) -> None:
    """Better than a policy that silently refuses what was meant to be allowed."""
    with pytest.raises(ConfigError, match=r"origins\.allowed"):
        policy("https://example.com", entry)


def test_rules_can_be_those_of_others() -> None:
    """All of them at once."""
    rules = policy("*")
    rules.adopt(policy("https://example.com", "https://*.example.org", required=True))
    assert rules.check("https://evil.com") is not None
    assert rules.check(None) is not None
    assert rules.check("https://example.com") is None
    assert rules.check("https://a.example.org") is None
