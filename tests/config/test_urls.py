"""URLs of settings and commands: what is refused by name, and that nothing of it is repeated."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st

from gateway.config import hosts, sources, urls
from gateway.config.description import mask_url
from gateway.config.redis_url import Target
from gateway.config.urls import Url
from gateway.errors import ConfigError

LONG = "a" * 64

REDIS = [
    ("redis://localhost", ("localhost", 6379, "", "", "", 0, False)),
    ("redis://localhost/", ("localhost", 6379, "", "", "", 0, False)),
    ("redis://redis.live.svc.cluster.local.:1/0", ("redis.live.svc.cluster.local.", 1, "", "", "", 0, False)),
    ("redis://10.0.0.1?db=2147483647", ("10.0.0.1", 6379, "", "", "", 2**31 - 1, False)),
    ("rediss://ada:p%40ss@example.com:7000/3", ("example.com", 7000, "", "ada", "p@ss", 3, True)),
    ("redis://:a:b%23%2F%3F%25@my_redis", ("my_redis", 6379, "", "", "a:b#/?%", 0, False)),
    ("redis://:schl%C3%BCssel@[::1]:65535?db=4", ("::1", 65535, "", "", "schlüssel", 4, False)),
    ("unix:///run/a%20b%40c.sock", ("", 0, "/run/a b@c.sock", "", "", 0, False)),
    ("unix://ada:x@/run/redis.sock?db=2", ("", 0, "/run/redis.sock", "ada", "x", 2, False)),
]


@pytest.mark.parametrize(("url", "target"), REDIS)
def test_where_a_redis_url_points_to(url: str, target: tuple[Any, ...]) -> None:
    """Percent-encoding is taken off, and the name for messages has no login."""
    found = Target.of(url)
    assert found == target
    assert target[4] == "" or target[4] not in found.name


def test_the_name_of_a_server_is_an_address() -> None:
    assert [Target.of(url).name for url in ("redis://[::1]", "redis://:x@h:1/2", "unix:///run/a")] == [
        "[::1]:6379",
        "h:1",
        "/run/a",
    ]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "expected redis://"),
        ("hush", "expected redis://"),
        ("http://hush@host", "expected redis://"),
        ("REDIS://host", "expected redis://"),
        ("redis:hush", "expected redis://"),
        # Characters of a password that stand for something else in an URL.
        ("redis://:hu#sh@host", "# before an @; percent-encode it (space is %20, # is %23"),
        ("redis://:hu/sh@host", "/ before an @"),
        ("redis://:hu?sh@host", "? before an @"),
        ("redis://:hu@sh@host", "@ before an @"),
        ("redis://:hu%sh@host", "a % without two hexadecimal digits"),
        ("redis://:hush%ff@host", "not UTF-8"),
        ("redis://:hu sh@host", "a character that URLs cannot have"),
        ("redis://:hush\n@host", "a character that URLs cannot have"),
        ("redis://:hüsh@host", "a character that URLs cannot have"),
        ("redis://host#hush", "it has a #"),
        # Logins
        ("redis://hush@host", "no password before the @"),
        ("redis://hush:@host", "no password before the @"),
        ("redis://@host", "no password before the @"),
        # Hosts
        ("redis://", "the host is missing"),
        ("redis://:6379", "the host is missing"),
        (f"redis://{LONG}", "1 to 63"),
        (f"redis://{'a.' * 127}a", "1 to 63"),
        ("redis://a..b", "1 to 63"),
        ("redis://.", "1 to 63"),
        ("redis://a\\hush", "1 to 63"),
        ("redis://a,b", "1 to 63"),
        ("redis://::1", "brackets"),
        ("redis://[::1", "brackets"),
        ("redis://[::g]", "not an IPv6 address"),
        ("redis://[]", "not an IPv6 address"),
        ("redis://[127.0.0.1]", "not an IPv6 address"),
        ("redis://[fe80::1%25eth0]", "never percent-encoded"),
        ("redis://10.0.0.256", "not an IPv4 address"),
        ("redis://10.1", "not an IPv4 address"),
        # Ports
        ("redis://host:99999", "a port after the host, a number from 1 to 65535"),
        ("redis://host:0", "a port after the host"),
        ("redis://host:", "a port after the host"),
        ("redis://host:-1", "a port after the host"),
        ("redis://host:²", "a character that URLs cannot have"),
        ("redis://:hush:6379", "there is a : in the host"),
        ("redis://user:hush", "a port after the host"),
        # Databases
        ("redis://host/x", "the database is not a number from 0 to 2147483647"),
        ("redis://host/0/", "the database is not a number"),
        ("redis://host/2147483648", "the database is not a number"),
        ("redis://host/" + "9" * 5000, "the database is not a number"),
        ("redis://host?db=-1", "the database is not a number"),
        ("redis://host?db=", "the database is not a number"),
        ("redis://host?db=1&db=2", "the database is not a number"),
        ("redis://host/1?db=1", "not both"),
        # Parameters
        ("redis://host?", "only db=N may follow the ?"),
        ("redis://host?timeout=hush", "only db=N"),
        ("redis://host?ssl_cert_reqs=none&db=1", "only db=N"),
        ("redis://host?DB=1", "only db=N"),
        # Unix sockets
        ("unix://", "unix:///PATH"),
        ("unix://run/redis.sock", "unix:///PATH"),
        ("unix:///run/%00hush", "unix:///PATH"),
        ("unix://:hu/sh@/run/redis.sock", "/ before an @"),
        ("unix:///run/redis.sock?hush=1", "only db=N"),
        ("unix:///run/redis.sock#hush", "it has a #"),
    ],
)
def test_a_redis_url_that_is_wrong_is_refused_by_name(url: str, text: str) -> None:
    """From every source, before anything is looked up; the text says what is wrong and holds nothing of the URL."""
    with pytest.raises(ValueError, match=r".") as caught:
        Target.of(url)
    assert text in str(caught.value)
    for flags, environ, source in (
        ({}, {"GATEWAY_REDIS__URL": url}, "GATEWAY_REDIS__URL"),
        ({"redis.url": url}, {}, "--redis-url"),
    ):
        with pytest.raises(ConfigError) as refused:
            sources.read(None, flags, environ)
        shown = "'REDIS://host'" if url == "REDIS://host" else "***"
        assert str(refused.value) == f"redis.url = {shown} ({source}): {caught.value}"
    for secret in ("hush", "hu", "sh"):
        assert secret not in str(caught.value).split()


@pytest.mark.parametrize(
    ("setting", "url", "shown"),
    [
        ("redis.url", "http://redis:6379/2", "'http://redis:6379/2'"),
        ("redis.url", "http://me:hush@redis:6379", "'http://me:***@redis:6379'"),
        ("redis.url", "tcp://:hush@redis?db=1", "'tcp://:***@redis?***'"),
        ("redis.url", "http://hush@redis", "***"),
        ("redis.url", "http://redis/hush", "***"),
        ("redis.url", "redis:6379", "***"),
        ("auth.jwks_url", "https://h/{tenant}/keys", "'https://h/{tenant}/keys'"),
        ("auth.jwks_url", "ftp://me:hush@h/keys?k=hush", "'ftp://me:***@h/keys?***'"),
        ("auth.jwks_url", "ftp://me:hu/sh@h", "***"),
    ],
)
def test_a_url_with_another_fault_than_its_login_is_shown_without_it(setting: str, url: str, shown: str) -> None:
    """Of a scheme or a template, the operator sees at once what is wrong."""
    with pytest.raises(ConfigError) as caught:
        sources.read(None, {setting: url}, {})
    assert str(caught.value).startswith(f"{setting} = {shown} (--")
    assert "hush" not in str(caught.value)


_PIECES = st.sampled_from(
    ["redis://", "rediss://", "unix://", "https://", ":", "@", "/", "?", "#", "[", "]", "%", "%2F", "%00", "db=", "&"]
)


def urls_of(schemes: str) -> Any:
    """Texts that are nearly URLs: pieces of them in any order, with a SECRET somewhere."""
    inner = st.lists(st.one_of(_PIECES, st.text(max_size=3), st.sampled_from(["h", "1", "::1"])), max_size=8)
    return st.tuples(inner, inner).map(lambda halves: schemes + "".join([*halves[0], "SECRET", *halves[1]]))


@seed(21)
@given(st.one_of(urls_of("redis://"), urls_of("unix://"), urls_of("")))
@example("redis://:SECRET@[::1")
def test_no_text_does_more_than_be_refused(url: str) -> None:
    """Whatever is given points somewhere or raises ValueError; a password that was understood is never shown."""
    shown, password = "", ""
    try:
        target = Target.of(url)
        shown, password = f"{target.name} {mask_url(url)}", target.password
    except ValueError as error:
        shown, password = str(error), "SECRET"
    assert "SECRET" not in password or "SECRET" not in shown


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://a.example", Url("https", None, "a.example", None, "", None)),
        ("http://u:p@[::1]:1/a/b?c=d", Url("http", "u:p", "::1", 1, "/a/b", "c=d")),
        ("x://h?", Url("x", None, "h", None, "", "")),
    ],
)
def test_urls_come_apart(url: str, parts: Url) -> None:
    assert urls.split(url) == parts


WRONG_PLACES = [
    "http://h:99999",
    "http://h:x",
    "http://[::1",
    "http://[::1]x",
    f"http://{LONG}.example",
    "http://a..b",
    "http://",
    "http://h h",
    "http://hush:pa/ss@h",
    "http://hush#@h",
    "ftp://h",
    "nothing",
]


@pytest.mark.parametrize("url", WRONG_PLACES)
@pytest.mark.parametrize("setting", ["auth.jwks_url", "node_url"])
def test_other_urls_are_refused_by_name(setting: str, url: str) -> None:
    """A key set that can never be fetched, and an address that no page can open; a login in them is not shown."""
    with pytest.raises(ConfigError) as caught:
        sources.read(None, {setting: url}, {})
    assert str(caught.value).startswith(f"{setting} = ")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://u:p@h", "http://h/path", "http://h?x"])
def test_the_url_of_a_node_is_an_origin(url: str) -> None:
    """Pages put paths behind it."""
    with pytest.raises(ConfigError, match=r"node_url = .*: .*expected http://HOST\[:PORT\]"):
        sources.read(None, {"node_url": url}, {})


@pytest.mark.parametrize(
    ("check", "host", "passes"),
    [
        (hosts.bare, "a" * 63 + ".example", True),
        (hosts.bare, "a" * 64 + ".example", False),
        (hosts.bare, "a-b_c.example.", True),
        (hosts.bare, "[fe80::1%eth0]", True),
        (hosts.bare, "a\x00b", False),
        (hosts.bare, "1.2.3.4", True),
        (hosts.bare, "1.2.3.4.5", False),
    ],
)
def test_hosts(check: Callable[[str], str], host: str, passes: bool) -> None:
    """Names by the lengths of RFC 1035, and addresses."""
    try:
        check(host)
    except ValueError:
        assert not passes
    else:
        assert passes
