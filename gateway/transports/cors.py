"""Cross-origin requests of pages (WHATWG Fetch section 3.2), for responses that are read by script.

The origins that may open a WebSocket may read these responses, and no others.
"""

from collections.abc import Iterable

from starlette.routing import compile_path

from gateway.auth.origins import OriginPolicy
from gateway.transports.handshake import Handshake

Header = tuple[bytes, bytes]

# Whatever answers a request with an Origin header must not be kept for another origin.
_VARY: Header = (b"vary", b"origin")
# Seconds for which a browser need not ask again; Chromium keeps no answer longer.
_MAX_AGE = 7200


def shared_with(origins: OriginPolicy, origin: str | None) -> list[Header]:
    """Headers that let a page of this origin read the response; none for other requests.

    A page may send cookies unless every origin is allowed: any page could read with the cookies of its visitors.
    """
    if origin is None:
        return []
    if origins.check(origin) is not None:
        return [_VARY]
    if origins.allows_all:
        return [(b"access-control-allow-origin", b"*")]
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        _VARY,
    ]


def preflight(origins: OriginPolicy, origin: str | None, methods: str, headers: str) -> list[Header]:
    """Headers that tell a page of this origin what else it may send (section 4.8); none but `vary` for other pages."""
    shared = shared_with(origins, origin)
    if shared in ([], [_VARY]):
        return shared
    return [
        *shared,
        (b"access-control-allow-methods", methods.encode()),
        (b"access-control-allow-headers", headers.encode()),
        (b"access-control-max-age", b"%d" % _MAX_AGE),
    ]


class SharedPaths:
    """The paths of a listener whose responses pages of other origins may read, by the origin of the page."""

    def __init__(self, origins: OriginPolicy, paths: Iterable[str]) -> None:
        """`paths`: those of routes."""
        self._origins = origins
        self._patterns = [compile_path(path)[0] for path in paths]

    def headers(self, target: bytes, sent: list[Header]) -> list[Header]:
        """Headers that let the page read what answers a request, whose target and headers these are.

        None for an absolute target, or one with escapes in what the route spells out: no page sends these.
        """
        path = target.partition(b"?")[0].decode("latin-1")
        if not any(pattern.match(path) for pattern in self._patterns):
            return []
        return shared_with(self._origins, Handshake({"path": path, "headers": sent}, ()).origin)
