"""Publishes what services emit with libraries of Socket.IO: a room is a channel."""

import logging
from collections.abc import Callable
from functools import partial

from gateway.broker.base import Dialect, Emitters, PublishDone
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.errors import RequestError
from gateway.hooks.payloads import Payloads
from gateway.log import LogLimit
from gateway.messages import DEFAULT_APP, Publication, PublishOptions, PublishResult
from gateway.metrics import Metrics
from gateway.protocols.socketio.emitted import Emission, NotEmitted, from_emitter, from_manager, is_client_id

logger = logging.getLogger(__name__)

# Seconds between two lines about what was dropped for the same reason; all are counted.
LOG_INTERVAL = 10.0

_DECODERS = {Dialect.EMITTER: from_emitter, Dialect.MANAGER: from_manager}


class Bridge:
    """Services may publish to every channel and ask no hook, as backends may. Nobody is told of an error but the log.

    At most once: a publish whose outcome is unknown is not repeated.
    """

    def __init__(
        self,
        emitters: Emitters,
        publish: Callable[[Publication, PublishOptions, PublishDone], None],
        channels: Channels,
        payloads: Payloads | None,
        in_force: Callable[[], ServerSettings],
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        """`payloads`: the models of namespaces. `clock` gives Unix seconds."""
        self._emitters = emitters
        self._publish = publish
        self._channels = channels
        self._payloads = payloads
        self._in_force = in_force
        self._clock = clock
        self._metrics = metrics
        self._lines = LogLimit(LOG_INTERVAL)

    def start(self) -> None:
        self._emitters.start(self.take)

    async def stop(self) -> None:
        """Let another node listen first, if there is one."""
        await self._emitters.stop()

    def take(self, dialect: Dialect, message: bytes) -> None:
        """Publish what a service has emitted, once for each room."""
        try:
            emission = _DECODERS[dialect](message, self._in_force().limits.message_size)
            names = self._names(emission)
        except NotEmitted as error:
            self._drop(error.reason, str(error))
            return
        for name in names:
            try:
                self._send(name, emission)
            except RequestError as error:
                # Other rooms may exist.
                self._drop("channel", str(error), name)

    def _names(self, emission: Emission) -> list[str]:
        """The channels of an emission. Raises NotEmitted."""
        settings = self._in_force()
        if not emission.rooms:
            if not settings.main_namespace.everyone:
                raise NotEmitted("everyone", "emitted to everybody, and no channel is for that (socketio.everyone)")
            return [settings.main_namespace.everyone]
        if (number := len(emission.rooms)) > settings.api.max_batch:
            raise NotEmitted("rooms", f"emitted to {number} rooms, more than {settings.api.max_batch} (api.max_batch)")
        own = settings.main_namespace.own
        return [own + room if own and is_client_id(room) else room for room in emission.rooms]

    def _send(self, name: str, emission: Emission) -> None:
        """Raises RequestError."""
        spec = self._channels.resolve(DEFAULT_APP, name)
        if self._payloads is not None:
            error = self._payloads.find_error(spec.namespace, emission.kind, emission.data)
            if error is not None:
                raise error
        publication = Publication(
            spec.channel,
            emission.data,
            emission.kind,
            time=int(self._clock() * 1000),
            event=emission.event,
            exclude_client=emission.exclude_client,
        )
        self._publish(publication, spec.publishing, partial(self._published, name))

    def _published(self, name: str, outcome: PublishResult | RequestError) -> None:
        if isinstance(outcome, RequestError):
            self._drop("publish", str(outcome), name)
        else:
            self._metrics.emitted.add()

    def _drop(self, reason: str, detail: str, name: str = "") -> None:
        self._metrics.emitted_dropped.add(reason)
        if (suppressed := self._lines.passes(reason)) is not None:
            where = {"channel": name} if name else {}
            logger.warning("what a service has emitted was dropped: %s", detail, extra=suppressed | where)
