"""The settings in force: read at startup, and reloaded while the node runs."""

import logging
from collections.abc import Callable, Mapping, Sequence

from gateway.config.checks import warnings
from gateway.config.reloading import Reloading, Source, digests
from gateway.config.settings import ServerSettings
from gateway.control import NodeId, Reloaded
from gateway.errors import GatewayError

logger = logging.getLogger(__name__)

# Prepares a part of the node for new settings, and returns a function that applies them. Only preparing may fail.
Prepare = Callable[[ServerSettings], Callable[[], object]]


class SettingsInForce:
    """Replaces the settings in one step: first every part prepares, which may fail; then every part applies them."""

    def __init__(self, settings: ServerSettings, source: Source | None) -> None:
        """`source` is where the settings are reloaded from."""
        self._reloading = Reloading(settings, source)
        self._parts: Sequence[Prepare] = ()
        self.settings = opened(settings)
        self.digests: Mapping[str, str] = digests(self.settings)

    def watch(self, *parts: Prepare) -> None:
        """Set the parts that depend on the settings, in the order in which they are updated."""
        self._parts = parts

    def reload(self, uid: NodeId) -> Reloaded:
        """Reload the settings; takes 20 ms, mostly for validation. Closes no connection, and raises nothing."""
        try:
            change = self._reloading.read()
            settings = opened(change.settings)
            for take in [prepare(settings) for prepare in self._parts]:
                take()
        except GatewayError as error:
            logger.error("the new settings cannot be used, the previous ones stay in force: %s", error)
            return Reloaded(uid, str(error))
        except Exception:
            logger.exception("the settings could not be reloaded, the previous ones stay in force")
            return Reloaded(uid, "internal error; the log of the node has it")
        self._reloading.take(change)
        known = warnings(self.settings)
        for warning in warnings(settings):
            if warning not in known:
                logger.warning("%s", warning)
        self.settings = settings
        self.digests = digests(settings)
        logger.info("reloaded the settings", extra={"changed": ", ".join(change.changed) or "nothing"})
        if change.needs_restart:
            logger.warning(
                "settings have changed that need a restart", extra={"settings": ", ".join(change.needs_restart)}
            )
        return Reloaded(uid, changed=change.changed, needs_restart=change.needs_restart)


def opened(settings: ServerSettings) -> ServerSettings:
    """Expand `no_auth` and `demo`: anonymous clients, and an API without a key (but never for browsers)."""
    if not (settings.no_auth or settings.demo):
        return settings
    return settings.model_copy(
        update={
            "auth": settings.auth.model_copy(update={"anonymous": True}),
            "api": settings.api.model_copy(update={"insecure": settings.api.insecure or not settings.api.keys}),
        }
    )
