"""A node inside an application: a Starlette or FastAPI application mounts it, and publishes through it.

gateway = Gateway({"namespaces": {"room": {"delivery": "recoverable"}}}, hooks=hooks)
app = FastAPI(lifespan=gateway.lifespan)
app.mount("/realtime", gateway)

@app.post("/rooms/{room}")
async def say(room: str, text: str) -> None:
    await gateway.publish(f"room:{room}", {"text": text})
"""

import fcntl
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from gateway import log
from gateway.app import Composition
from gateway.config.named_objects import named_object
from gateway.config.reloading import Source
from gateway.config.settings import ServerSettings
from gateway.config.sources import read
from gateway.errors import ConfigError, GatewayError
from gateway.hooks import Hooks
from gateway.in_process import InProcess
from gateway.server_signals import ServerSignals

logger = logging.getLogger(__name__)

NOT_STARTED = (
    "the gateway has not been started. Write FastAPI(lifespan=gateway.lifespan) or Starlette(lifespan=...), or in a "
    "lifespan of your own: `async with gateway.lifespan(app): yield`"
)


# Those made in this process.
_made: list["Gateway"] = []


class NotStartedError(GatewayError):
    """The gateway is used before its lifespan began, or after it ended."""

    def __init__(self) -> None:
        super().__init__(NOT_STARTED)


class Gateway(InProcess):
    """An ASGI application with the paths of the public listener. Made at import time, started by its lifespan.

    Its coroutines are the methods of the API (`publish`, `presence`, `disconnect`, ...), and raise RequestError.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, hooks: Hooks | None = None) -> None:
        """`settings` by section, as in gateway.toml. They win over variables GATEWAY_... and over ./gateway.toml, which
        are read as well.
        """
        self.given: Mapping[str, Any] = settings or {}
        self.hooks = hooks or Hooks()
        self.hooks.gateway = self
        self._composition: Composition | None = None
        # Whether a command runs the application on the gateway's own server.
        self._served = False
        self._started = False
        self._lock: int | None = None
        _made.append(self)

    @property
    def composition(self) -> Composition:
        """The parts of the running node. Raises NotStartedError."""
        if self._composition is None or not self._started:
            raise NotStartedError
        return self._composition

    def compose(self, settings: ServerSettings, source: Source | None) -> Composition:
        """For the command that runs the application on the gateway's own server: make the parts, in the loop."""
        self._served = True
        self._composition = Composition(settings, source, hooks=self.hooks)
        return self._composition

    @contextmanager
    def served_by(self, composition: Composition) -> Iterator[None]:
        """For tests: this node is the one of the application, and has been started."""
        self._composition, self._started = composition, True
        try:
            yield
        finally:
            self._composition, self._started = None, False

    def check_started(self) -> None:
        """Raises NotStartedError if the application has been started and its gateway has not."""
        if not self._started:
            raise NotStartedError

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Starts the node, and stops it at the end. For `FastAPI(lifespan=...)`, or within a lifespan of your own.

        Raises ConfigError for settings that cannot be used.
        """
        if not self._served:
            loaded = read(None, {}, os.environ, self.given)
            # A server that restarts at each change of the code waits for the drain.
            settings = loaded.without_drain()
            log.configure_within(settings.log, sys.stderr, settings.node_name)
            if settings.redis.url is None and self._lock is None:
                self._lock = _only_worker()
            self._composition = Composition(settings, hooks=self.hooks)
            logger.info(
                "the gateway runs on the server of the application, over plain ASGI; `gateway serve --app MODULE:NAME` "
                "runs both on the gateway's own server, which takes a fraction of the CPU and memory"
            )
        else:
            logger.info("the application runs on the gateway's own server")
        assert self._composition is not None
        composition = self._composition
        try:
            async with composition.running():
                self._started = True
                # Our own server hears the signals itself.
                with nullcontext() if self._served else ServerSignals(composition).heard():
                    yield
        finally:
            self._started = self._served = False
            self._composition = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or a connection. Raises NotStartedError."""
        await self.composition.public(scope, receive, send)


class Application(NamedTuple):
    """An application and the gateway in it."""

    app: Any
    gateway: Gateway


def load_application(name: str) -> Application:
    """The application that `package.module:attribute` names. Raises ConfigError."""
    app = named_object(name, "app")
    if not _made:
        raise ConfigError(f"app: {name} makes no Gateway(): without one, serve it with any ASGI server")
    if len(_made) > 1:
        raise ConfigError(f"app: {name} makes {len(_made)} Gateway() objects, expected one")
    return Application(app, _made[0])


def _only_worker() -> int | None:
    """Hold a lock that no other worker of the same server gets: without Redis, their clients would never meet.

    Returns its descriptor, which stays open until the process ends; None where the process is no worker. Raises
    ConfigError for the second worker.
    """
    is_gunicorn = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    if multiprocessing.parent_process() is None and not is_gunicorn:
        return None
    path = Path(tempfile.gettempdir()) / f"pubsub-gateway-{os.getuid()}-{os.getppid()}.lock"
    try:
        # Others may write there too: no link of theirs is followed, and nothing is truncated.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            "redis.url is not set, and another worker of this server runs already: without Redis or Valkey, clients of "
            "one worker would not hear those of another. Set GATEWAY_REDIS__URL, or run one worker"
        ) from None
    return lock
