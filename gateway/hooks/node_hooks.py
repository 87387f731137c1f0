"""The application of a node: its hooks in Python, and those over HTTP."""

from functools import partial
from typing import Any

from gateway.config.settings import HttpHookSettings
from gateway.guard import Guard
from gateway.hooks.decisions import NO_APPLICATION, Application, Asks
from gateway.hooks.hooks import Hooks
from gateway.hooks.http_hooks import HttpHooks
from gateway.hooks.payloads import Payloads
from gateway.hooks.python_hooks import PythonHooks
from gateway.metrics import Metrics


class NodeHooks:
    """Both of them. `check_fit` has found that they do not answer the same questions."""

    def __init__(self, hooks: Hooks, settings: HttpHookSettings, metrics: Metrics, guard: Guard) -> None:
        self._python = PythonHooks(hooks, metrics, guard)
        self._http = HttpHooks(settings, metrics, guard)
        metrics.hooks_running.read = lambda: self._python.running + self._http.running
        # None without models, so that they cost nothing.
        self.payloads = Payloads(hooks.payloads, partial(guard.failed, "payload")) if hooks.payloads else None
        self.application = _joined(self._python.application, self._http.application)

    async def start(self) -> None:
        """Run the startup hooks. Raises what they raise."""
        await self._http.start()
        await self._python.start()

    async def stop(self) -> None:
        """End the calls that run, then run the shutdown hooks."""
        await self._http.stop()
        await self._python.stop()


def _joined(one: Application, other: Application) -> Application:
    if one is NO_APPLICATION or other is NO_APPLICATION:
        return other if one is NO_APPLICATION else one
    return Application(
        connect=one.connect or other.connect,
        reads_cookies=(one if one.connect is not None else other).reads_cookies,
        forwarded=one.forwarded | other.forwarded,
        refresh=one.refresh or other.refresh,
        subscribe=_all(one.subscribe, other.subscribe),
        sub_refresh=_all(one.sub_refresh, other.sub_refresh),
        publish=_all(one.publish, other.publish),
        rpc=_all(one.rpc, other.rpc),
        disconnect=one.disconnect or other.disconnect,
        unsubscribe=_all(one.unsubscribe, other.unsubscribe),
        occupied=_all(one.occupied, other.occupied),
        vacated=_all(one.vacated, other.vacated),
    )


def _all(one: Asks[Any, Any] | None, other: Asks[Any, Any] | None) -> Asks[Any, Any] | None:
    if one is None or other is None:
        return other if one is None else one
    return Asks({**one.named, **other.named}, one.others or other.others)
