"""Hooks in Python: functions that run in this process, on the loop of the node."""

import logging
from typing import Any

from gateway.config.settings import HookKind
from gateway.guard import Guard
from gateway.hooks.conversion import CONVERSIONS
from gateway.hooks.decisions import NO_APPLICATION, Application, Asks
from gateway.hooks.hooks import Hooks
from gateway.hooks.runner import Runner
from gateway.metrics import Metrics

logger = logging.getLogger(__name__)


class PythonHooks:
    """The application that hooks in Python make."""

    def __init__(self, hooks: Hooks, metrics: Metrics, guard: Guard) -> None:
        self._hooks = hooks
        self._runners = {hook: Runner[Any, Any](hook, CONVERSIONS[hook.kind], metrics, guard) for hook in hooks.hooks}
        self.application = self._application() if hooks.hooks else NO_APPLICATION

    @property
    def running(self) -> int:
        """Calls that run now."""
        return sum(len(each.tasks) for each in self._runners.values())

    async def start(self) -> None:
        """Run the startup hooks. Raises what they raise."""
        for function in self._hooks.starting:
            await function()

    async def stop(self) -> None:
        """End the calls that run, then run the shutdown hooks; what one of these raises is logged."""
        for runner in self._runners.values():
            await runner.stop()
        for function in reversed(self._hooks.stopping):
            try:
                await function()
            except Exception:
                logger.exception("the shutdown hook %s failed", function.__qualname__)

    def _application(self) -> Application:
        connect, refresh, disconnect = (self._of(kind) for kind in ("connect", "refresh", "disconnect"))
        return Application(
            connect=connect.others if connect is not None else None,
            reads_cookies=self._hooks.reads_cookies,
            refresh=refresh.others if refresh is not None else None,
            subscribe=self._of("subscribe"),
            sub_refresh=self._of("sub_refresh"),
            publish=self._of("publish"),
            rpc=self._of("rpc"),
            disconnect=disconnect.others if disconnect is not None else None,
            unsubscribe=self._of("unsubscribe"),
            occupied=self._of("occupied"),
            vacated=self._of("vacated"),
        )

    def _of(self, kind: HookKind) -> Asks[Any, Any] | None:
        named: dict[str, Runner[Any, Any]] = {}
        others: Runner[Any, Any] | None = None
        for hook in self._hooks.hooks:
            if hook.kind != kind:
                continue
            runner = self._runners[hook]
            named.update(dict.fromkeys(hook.names, runner))
            others = others if hook.names else runner
        return Asks(named, others) if named or others is not None else None
