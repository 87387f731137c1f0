"""URLs of targets, metrics pages and Redis: which can be used, and what of them may be shown."""

import re
from urllib.parse import parse_qs, urlsplit, urlunsplit

# Instead of a secret.
HIDDEN = "***"
# What no URL holds (RFC 3986, section 2): the request line would end there.
_UNPRINTED = re.compile(r"[\x00-\x20\x7f]")


def is_url(text: str, *schemes: str) -> bool:
    """With a host that can be looked up, a port that is a number, and a login in front of the host if anywhere."""
    try:
        parts = urlsplit(text)
        # Raises for labels that DNS has no room for.
        host = (parts.hostname or "").encode("idna")
        is_whole = parts.netloc.count("@") == text.count("@") <= 1 and "#" not in text
        return parts.scheme in schemes and bool(host) and parts.port != 0 and is_whole and not _UNPRINTED.search(text)
    except ValueError:
        return False


def is_redis(text: str) -> bool:
    """redis://, rediss:// or unix://, with nothing but the database behind a ?."""
    try:
        parts = urlsplit(text)
        parameters = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        has_database = all(name == "db" and "".join(numbers).isdecimal() for name, numbers in parameters.items())
        if parts.scheme == "unix":
            is_whole = parts.netloc.count("@") == text.count("@") <= 1 and "#" not in text
            return parts.path.startswith("/") and has_database and is_whole
        return is_url(text, "redis", "rediss") and has_database
    except ValueError:
        return False


def public(url: str) -> str:
    """Without what may be a secret: who asks, and the query."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path, HIDDEN if parts.query else "", ""))


def shown(text: str) -> str:
    """What was refused, for a message; not when a login or a token may stand in it."""
    return HIDDEN if set(text) & set("@?#") else repr(text)
