"""Where the gateway is, and how it is reached: what both clients have in common."""

import inspect
import os
import ssl
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import httpx

from gateway.client.calls import ERROR_MODE, Call
from gateway.client.commands import Command
from gateway.client.tries import Pause
from gateway.config.target import BAD_PROXY, Target, target_of
from gateway.errors import ConfigError

R = TypeVar("R")
H = TypeVar("H")

# Seconds that an unused connection is kept. Nodes keep it longer (limits.keep_alive), and a connection that something
# in between has closed is seen before it is used.
KEEP_ALIVE = 30.0
# Errors before anything of the request was sent.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class Connection:
    """The gateway of a client, and how patient the client is. (No tuple, whose repr would show the key.)"""

    def __init__(self, target: Target, key: str, timeout: float, retries: int) -> None:
        self._target = target
        self._key = key
        self._timeout = timeout
        self._retries = retries

    def call(self, command: Command[R]) -> Call[R]:
        return Call(command, self._target.name, self._timeout, self._retries)

    def open(self, client: Callable[..., H], transport: Callable[..., object]) -> H:
        """A pool of connections: an httpx client of this kind. Raises ConfigError."""
        headers = {**ERROR_MODE, "Content-Type": "application/json"}
        if self._key:
            headers["X-API-Key"] = self._key
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=KEEP_ALIVE)
        try:
            return client(
                base_url=self._target.http(""),
                headers=headers,
                transport=transport(uds=self._target.socket, limits=limits) if self._target.socket else None,
                # OpenSSL's own default heeds SSL_CERT_FILE; httpx does so only where it also heeds proxies.
                verify=ssl.create_default_context() if self._target.secure else False,
                trust_env=not self._target.is_loopback,
                limits=limits,
            )
        except (httpx.InvalidURL, ValueError, ImportError):
            raise ConfigError(BAD_PROXY) from None


def connection_of(url: str | None, key: str | None, timeout: float, retries: int) -> Connection:
    """What is not given is in GATEWAY_URL and GATEWAY_API_KEY. Raises ConfigError."""
    url = os.environ.get("GATEWAY_URL", "") if url is None else url
    if not url:
        raise ConfigError("where is the gateway? Give the client a url, or set GATEWAY_URL")
    key = os.environ.get("GATEWAY_API_KEY", "") if key is None else key
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the API key has a character that headers cannot have")
    return Connection(target_of(url, "the url of the client, or GATEWAY_URL"), key, timeout, retries)


def failed(call: Call[R], error: httpx.RequestError) -> Pause:
    """Tell a call that httpx got no answer. Raises Unavailable."""
    was_sent = not isinstance(error, _UNSENT)
    return call.failed(error, was_sent=was_sent, was_late=isinstance(error, httpx.TimeoutException))


def describe(method: Callable[..., Any], build: Callable[..., Command[Any]]) -> None:
    """Give a method of a client the name, the text and the signature of the function that builds its command."""
    found = inspect.signature(build)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *found.parameters.values()]
    (result,) = get_args(found.return_annotation)
    method.__name__ = method.__qualname__ = build.__name__
    method.__doc__ = build.__doc__
    method.__signature__ = found.replace(  # type: ignore[attr-defined]  # as functools.wraps does with __wrapped__
        parameters=parameters, return_annotation=result
    )
