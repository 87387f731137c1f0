"""Hooks over HTTP: a backend in any language is asked with POST requests (docs/hooks-http.md)."""

import asyncio
import logging
import time
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.config import urls
from gateway.config.settings import EVENT_HOOKS, HookKind, HttpHookSettings
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.hooks import http_format
from gateway.hooks.breaker import FAILURES, PAUSE, Breaker
from gateway.hooks.decisions import NO_APPLICATION, Application, Ask, Asks, Extended, Undecided
from gateway.hooks.events import Event
from gateway.hooks.questions import ConnectRequest, Headers, Request, chosen
from gateway.hooks.runner import CallFailed, Runner, refused
from gateway.metrics import Metrics

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

OK = 200
LEAST_REDIRECT = 300
LEAST_SERVER_ERROR = 500
# Bytes of a reply.
LONGEST_REPLY = 1_048_576
# Pieces of a reply that are read in one turn of the loop: a backend may send one byte in each.
PIECES = 32
# Seconds that an idle connection is kept, less than servers commonly do: they must not close it while a call is sent.
KEEP_ALIVE = 4.0
# Seconds that a connection or subscription lives on when nobody can be asked and `when_unavailable` allows it.
EXTENSION = 60


class HttpHooks:
    """The application that a backend makes."""

    def __init__(self, settings: HttpHookSettings, metrics: Metrics, guard: Guard) -> None:
        self._settings = settings
        # Set while the node runs.
        self.client: httpx.AsyncClient | None = None
        self._backends = {kind: _Backend(kind, url, settings, self) for kind, url in settings.urls.items()}
        self._runners = {kind: self._runner(each, metrics, guard) for kind, each in self._backends.items()}
        metrics.hook_circuits.read = lambda: {
            kind: float(each.breaker.is_open) for kind, each in self._backends.items()
        }
        self.application = self._application() if self._runners else NO_APPLICATION

    @property
    def running(self) -> int:
        """Calls that run now."""
        return sum(len(each.tasks) for each in self._runners.values())

    async def start(self) -> None:
        """Make the client, which takes a few ms for the certificates. Nothing is asked yet."""
        if self._runners:
            self.client = _client(self._settings.concurrency)

    async def stop(self) -> None:
        """End the calls that run."""
        for runner in self._runners.values():
            await runner.stop()
        if self.client is not None:
            await self.client.aclose()

    def _runner(self, backend: "_Backend", metrics: Metrics, guard: Guard) -> Runner[Any, Any]:
        undecided: Callable[[RequestError], Any] = refused
        if self._settings.when_unavailable == "allow":
            undecided = _ALLOWING.get(backend.kind, refused)
        return Runner(backend, _as_it_is, metrics, guard, closed=backend.closed, undecided=undecided)

    def _application(self) -> Application:
        names = frozenset(name.encode() for name in self._settings.headers)
        return Application(
            connect=self._runners.get("connect"),
            reads_cookies=b"cookie" in names,
            forwarded=names if self._runners.keys() - {"connect", *EVENT_HOOKS} else frozenset(),
            refresh=self._runners.get("refresh"),
            subscribe=self._of_channels("subscribe"),
            sub_refresh=self._of_channels("sub_refresh"),
            publish=self._of_channels("publish"),
            rpc=Asks({}, self._runners["rpc"]) if "rpc" in self._runners else None,
            disconnect=self._runners.get("disconnect"),
            unsubscribe=self._of_channels("unsubscribe"),
            occupied=self._of_channels("occupied"),
            vacated=self._of_channels("vacated"),
        )

    def _of_channels(self, kind: HookKind) -> Asks[Any, Any] | None:
        runner: Ask[Any, Any] | None = self._runners.get(kind)
        if runner is None:
            return None
        names = self._settings.namespaces
        return Asks(dict.fromkeys(names, runner)) if names else Asks({}, runner)


class _Backend:
    """One URL, as a job of a runner."""

    def __init__(self, kind: HookKind, url: str, settings: HttpHookSettings, hooks: HttpHooks) -> None:
        self.kind = kind
        # Without user, password and query, which may be secret.
        scheme, _, rest = urls.cut(url)
        self.name = f"{kind} hook {scheme}://{rest.partition('?')[0]}"
        self.timeout = settings.timeout
        self.concurrency = settings.concurrency
        self.breaker = Breaker()
        self._url = url
        self._hooks = hooks
        self._secret = settings.secret.get_secret_value().encode() if settings.secret is not None else b""
        self._names = frozenset(name.encode() for name in settings.headers)

    def closed(self) -> str:
        """Why no call is made now; empty if calls are made."""
        return "" if self.breaker.admits() else "the backend fails, and is not asked for a while"

    async def function(self, request: Request | Event) -> Any:
        """The decision about a request. Raises CallFailed."""
        try:
            body = http_format.encode(request)
        except (TypeError, ValueError) as error:
            raise CallFailed(f"meta has no JSON: {error}", is_unavailable=False) from None
        # Whether it was admitted is decided now: while it waited for its turn, others may have failed.
        if reason := self.closed():
            raise CallFailed(reason, is_unavailable=True)
        self.breaker.begin()
        try:
            reply = await self._post(request, body)
        except CallFailed as failure:
            self._ended(request, answered=not failure.is_unavailable)
            raise
        except BaseException:
            # Among them the end of its time.
            self._ended(request, answered=False)
            raise
        self._ended(request, answered=True)
        try:
            return http_format.decode(self.kind, reply)
        except (TypeError, ValueError) as error:
            raise CallFailed(f"the reply cannot be used: {error}", is_unavailable=False) from None

    async def _post(self, request: Request | Event, body: bytes) -> bytes:
        """The reply. Raises CallFailed."""
        import httpx

        client = self._hooks.client
        assert client is not None
        headers = [(b"Content-Type", b"application/json"), *self._forwarded(request)]
        if self._secret:
            signed = http_format.signature(self._secret, int(time.time()), body)
            headers.append((b"X-Gateway-Signature", signed.encode()))
        try:
            async with client.stream("POST", self._url, content=body, headers=headers) as response:
                status = response.status_code
                if self.kind in EVENT_HOOKS and OK <= status < LEAST_REDIRECT:
                    # Heard; nothing is asked.
                    return b""
                if status != OK:
                    raise CallFailed(f"status {status}", is_unavailable=status >= LEAST_SERVER_ERROR)
                return await _read(response)
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise CallFailed(reason, is_unavailable=True) from None

    def _forwarded(self, request: Request | Event) -> Headers:
        if isinstance(request, ConnectRequest):
            return chosen(request.handshake.scope["headers"], self._names)
        return request.forwarded if isinstance(request, Request) else ()

    def _ended(self, request: Request | Event, *, answered: bool) -> None:
        if answered:
            if self.breaker.succeeded():
                logger.info("the %s answers again", self.name)
        # A user, or who is yet to become one, may cause failures by what it asks: they count once.
        elif self.breaker.failed(request.blamed):
            logger.error("the %s failed for %d clients in a row: it is not asked for %g s", self.name, FAILURES, PAUSE)


async def _read(response: "httpx.Response") -> bytes:
    """The body of a response. Raises CallFailed if it is too long or compressed."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        # We asked for no compression; unpacking could yield any size.
        raise CallFailed("the reply is compressed", is_unavailable=False)
    body = bytearray()
    pieces = 0
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > LONGEST_REPLY:
            raise CallFailed(f"the reply has more than {LONGEST_REPLY} bytes", is_unavailable=False)
        pieces += 1
        if not pieces % PIECES:
            await asyncio.sleep(0)
    return bytes(body)


def _client(concurrency: int) -> "httpx.AsyncClient":
    import httpx

    return httpx.AsyncClient(
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"gateway/{__version__}"},
        # What a response sets must not go out with the requests of other clients.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        # The runner has a deadline for the whole call, and bounds how many there are.
        timeout=None,  # noqa: S113
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=concurrency, keepalive_expiry=KEEP_ALIVE),
    )


def _as_it_is(decision: Any) -> Any:
    return decision


def _extended(error: RequestError) -> Extended:
    return Extended(int(time.time()) + EXTENSION)


# What to answer, by kind, when nobody can be asked and the settings may decide. Calls have no other answer.
_ALLOWING: dict[HookKind, Callable[[RequestError], Any]] = {
    "connect": Undecided,
    "subscribe": Undecided,
    "publish": Undecided,
    "refresh": _extended,
    "sub_refresh": _extended,
}
