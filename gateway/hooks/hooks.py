"""Hooks, as an application declares them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any, TypeVar, overload

from gateway.config.settings import HookKind
from gateway.hooks.payloads import Payload, payload_of
from gateway.hooks.questions import RpcRequest

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

# Seconds that a hook may take, and how many of its calls run at once on a node.
TIMEOUT = 5.0
CONCURRENCY = 100
# A request waits at most LONGEST_WAIT (session/inbox.py) for all that it needs.
LONGEST_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Hook:
    """One function and how it is run."""

    kind: HookKind
    function: Callable[[Any], Awaitable[Any]]
    # Namespaces of channels, or methods; empty: all that no other hook names.
    names: tuple[str, ...]
    timeout: float
    concurrency: int

    @property
    def name(self) -> str:
        """For logs."""
        return f"{self.kind} hook {self.function.__module__}.{self.function.__qualname__}"


class Hooks:
    """Collects hooks by decorators. All functions are `async def` with one argument, the request (but see `on`).

    `timeout` is in seconds and includes waiting for other calls, except for that of an event; a call that takes longer
    is cancelled. `concurrency` is how many calls of the hook run at once on each node. Raises TypeError and ValueError
    for what cannot be a hook.
    """

    def __init__(self) -> None:
        # For the application: what its startup hook makes, such as a pool of database connections.
        self.state = SimpleNamespace()
        # The methods of the API, as coroutines: `await hooks.gateway.publish(channel, data)`. There once the node runs.
        self.gateway: Any = None
        self.hooks: list[Hook] = []
        self.payloads: list[Payload] = []
        # Whether the connect hook gets cookies.
        self.reads_cookies = False
        self.starting: list[Callable[[], Awaitable[Any]]] = []
        self.stopping: list[Callable[[], Awaitable[Any]]] = []

    @overload
    def connect(self, function: F, /) -> F: ...
    @overload
    def connect(self, /, *, cookies: bool = ..., timeout: float = ..., concurrency: int = ...) -> Callable[[F], F]: ...
    def connect(self, function: F | None = None, /, *, cookies: bool = True, **options: Any) -> F | Callable[[F], F]:
        """Asked for every client that connects, once its token, if it has one, is verified. Returns ConnectResult.

        A hook with `cookies` needs a list of origins: with `origins.allowed = ["*"]`, any page could connect with the
        cookies of its visitors. Without, the request has none.
        """
        self.reads_cookies = cookies
        return self._plain("connect", function, options)

    @overload
    def refresh(self, function: F, /) -> F: ...
    @overload
    def refresh(self, /, *, timeout: float = ..., concurrency: int = ...) -> Callable[[F], F]: ...
    def refresh(self, function: F | None = None, /, **options: Any) -> F | Callable[[F], F]:
        """Asked when a connection reaches the `expire_at` of its ConnectResult. Returns RefreshResult."""
        return self._plain("refresh", function, options)

    def subscribe(self, *namespaces: str, timeout: float = TIMEOUT, concurrency: int = CONCURRENCY) -> Callable[[F], F]:
        """Asked for subscribes without a token, in place of `allow_subscribe`. Returns True, False or SubscribeResult.

        `namespaces`: "" is that of channels without one; none given: all that no other hook names.
        """
        return self._named("subscribe", namespaces, timeout, concurrency)

    def sub_refresh(
        self, *namespaces: str, timeout: float = TIMEOUT, concurrency: int = CONCURRENCY
    ) -> Callable[[F], F]:
        """Asked when a subscription reaches the `expire_at` of its SubscribeResult. Returns SubRefreshResult."""
        return self._named("sub_refresh", namespaces, timeout, concurrency)

    def publish(self, *namespaces: str, timeout: float = TIMEOUT, concurrency: int = CONCURRENCY) -> Callable[[F], F]:
        """Asked for publishes of clients, in place of `allow_publish`. Returns True, False or PublishResult."""
        return self._named("publish", namespaces, timeout, concurrency)

    def rpc(self, *methods: str, timeout: float = TIMEOUT, concurrency: int = CONCURRENCY) -> Callable[[F], F]:
        """Answers calls of clients. Returns a JSON value. `methods`: none given: all that no other hook names."""
        return self._named("rpc", methods, timeout, concurrency)

    def on(
        self, *events: str, namespace: str = "/", timeout: float = TIMEOUT, concurrency: int = CONCURRENCY
    ) -> Callable[[F], F]:
        """Gets events of Socket.IO clients, except those that the settings map to channels.

        The function gets the request, as one for `rpc`, and the arguments of the event, and returns the
        acknowledgement, a JSON value. `events`: at least one. Calls of other clients to a method of this name come here
        too; their payload is one argument unless it is a list.
        """
        if not events:
            raise TypeError("@hooks.on takes the names of events")
        names = events if namespace == "/" else tuple(f"{namespace},{event}" for event in events)

        def decorate(function: F) -> F:
            @wraps(_checked(function, "on"))
            async def answer(request: RpcRequest) -> Any:
                data = request.data
                arguments = data if isinstance(data, list) else [data] if request.raw else []
                return await function(request, *arguments)

            self._named("rpc", names, timeout, concurrency)(answer)
            return function

        return decorate

    @overload
    def disconnect(self, function: F, /) -> F: ...
    @overload
    def disconnect(self, /, *, timeout: float = ..., concurrency: int = ...) -> Callable[[F], F]: ...
    def disconnect(self, function: F | None = None, /, **options: Any) -> F | Callable[[F], F]:
        """Told of connections that have ended, at least once each; again after an exception or a timeout."""
        return self._plain("disconnect", function, options)

    def unsubscribe(
        self, *namespaces: str, timeout: float = TIMEOUT, concurrency: int = CONCURRENCY
    ) -> Callable[[F], F]:
        """Told of subscriptions that have ended, for whatever reason. As `disconnect`."""
        return self._named("unsubscribe", namespaces, timeout, concurrency)

    def occupied(self, *namespaces: str, timeout: float = TIMEOUT, concurrency: int = CONCURRENCY) -> Callable[[F], F]:
        """Told of channels with their first subscription in the cluster. As `disconnect`."""
        return self._named("occupied", namespaces, timeout, concurrency)

    def vacated(self, *namespaces: str, timeout: float = TIMEOUT, concurrency: int = CONCURRENCY) -> Callable[[F], F]:
        """Told of channels that have had no subscription in the cluster for 2 s. As `disconnect`."""
        return self._named("vacated", namespaces, timeout, concurrency)

    def payload(self, namespace: str, model: Any) -> None:
        """Only JSON that fits the model may be published in the namespace ("" is that of channels without one).

        The model is a class of msgspec or pydantic, a dataclass, a TypedDict or another type that these can check, or a
        TypeAdapter of pydantic. Raises TypeError for what cannot be a model.
        """
        if not isinstance(namespace, str):
            raise TypeError("hooks.payload takes the name of a namespace, then the model")
        if any(each.namespace == namespace for each in self.payloads):
            raise ValueError(f"there is a payload model for {namespace!r} already")
        self.payloads.append(payload_of(namespace, model))

    def startup(self, function: F) -> F:
        """Called before the node serves, in the order of declaration, without an argument."""
        self.starting.append(_checked(function, "startup"))
        return function

    def shutdown(self, function: F) -> F:
        """Called when the node has closed its connections, in reverse order, without an argument."""
        self.stopping.append(_checked(function, "shutdown"))
        return function

    def _plain(self, kind: HookKind, function: F | None, options: dict[str, Any]) -> F | Callable[[F], F]:
        decorate: Callable[[F], F] = self._named(
            kind, (), **{"timeout": TIMEOUT, "concurrency": CONCURRENCY, **options}
        )
        return decorate if function is None else decorate(function)

    def _named(self, kind: HookKind, names: tuple[str, ...], timeout: float, concurrency: int) -> Callable[[F], F]:
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"@hooks.{kind} takes names: write @hooks.{kind}() for all of them")
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise ValueError(f"@hooks.{kind}: timeout is {timeout}, expected more than 0 and at most {LONGEST_TIMEOUT}")
        if concurrency < 1:
            raise ValueError(f"@hooks.{kind}: concurrency is {concurrency}, expected at least 1")
        taken = {name for hook in self.hooks if hook.kind == kind for name in hook.names or (None,)}
        for name in names or (None,):
            if name in taken:
                what = "" if name is None else f" for {name!r}"
                raise ValueError(f"there is a {kind} hook{what} already")

        def decorate(function: F) -> F:
            self.hooks.append(Hook(kind, _checked(function, kind), names, timeout, concurrency))
            return function

        return decorate


def _checked(function: Callable[..., Awaitable[Any]], kind: str) -> Callable[..., Awaitable[Any]]:
    if not iscoroutinefunction(function):
        raise TypeError(f"the {kind} hook {getattr(function, '__qualname__', function)!r} has to be an `async def`")
    return function
