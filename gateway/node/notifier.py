"""Tells the application of events: each at least once, those of one client or channel in their order."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.broker.base import EventLog, Happening
from gateway.channels import namespace_of
from gateway.errors import Disconnect, RequestError
from gateway.guard import Guard
from gateway.hooks.decisions import Application, Ask
from gateway.hooks.events import AnyEvent, DisconnectEvent, OccupiedEvent, UnsubscribeEvent, VacatedEvent, ended
from gateway.metrics import Metrics
from gateway.repeating import Repeating
from gateway.scheduler import Scheduler

logger = logging.getLogger(__name__)

# Seconds between looks at the log.
INTERVAL = 0.25
# Ends that are read and not handled, about at most; and as many changes of channels. Apart, so that a hook that fails
# for the ones does not hold up the others for ever.
MOST_OPEN = 10_000
# Events of either that are read at once: each takes 10 to 20 us of the loop.
PART = 1_000
# Milliseconds for which a channel has to stay empty: somebody who loads a page again does not vacate it. (2 seconds,
# and one within which nodes write what they notice.)
EMPTY = 3_000
# Seconds from reading that a channel was vacated to telling it: by then, who came back within EMPTY has been read.
VACATED_GRACE = EMPTY / 1000 + 2 * INTERVAL
# Seconds until an event is told again after its hook has failed: doubled each time, up to the last.
FIRST_DELAY, LAST_DELAY = 1.0, 60.0
# Seconds after which an event is given up: its hook has failed for so long.
KEPT = 86_400
# Seconds for which a node that stops waits for hooks, if nobody else could tell the rest.
PATIENCE = 1.0


@dataclass(slots=True)
class _Telling:
    event: AnyEvent
    # When it may be told that a channel was vacated, on the clock of the scheduler.
    due: float
    failures: int = 0
    # Its hook is being called.
    is_told: bool = False


# Those of one client or channel. The first is told, or waits to be told again.
Queue = deque[_Telling]


class Notifier:
    """On the node whose turn it is. Others wait until it is theirs."""

    def __init__(
        self,
        log: EventLog,
        application: Application,
        scheduler: Scheduler,
        metrics: Metrics,
        guard: Guard,
        explained: Callable[[], bool],
    ) -> None:
        """`explained` is asked when the log cannot be read (see Repeating)."""
        self._log = log
        self._application = application
        self._scheduler = scheduler
        self._metrics = metrics
        self._guard = guard
        self._looking = Repeating(guard, "events", INTERVAL, self._look, explained)
        self._queues: dict[str, Queue] = {}
        # Ids of those that are handled, until the log knows.
        self._heard: list[str] = []
        self._is_idle = asyncio.Event()
        # Seconds until it is told that a channel was vacated.
        self._grace = VACATED_GRACE
        log.on_news = self._looking.soon
        metrics.hook_events_waiting.read = lambda: float(sum(len(queue) for queue in self._queues.values()))
        metrics.hook_events_lag.read = self._lag

    def start(self) -> None:
        self._looking.start()

    async def stop(self) -> None:
        """Let the log know what has been handled. If no other node can tell the rest, try to for a second."""
        await self._looking.stop()
        with suppress(RequestError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                if not self._log.lasting:
                    await self._tell_the_rest()
                await self._finish()
        self._queues.clear()

    async def _tell_the_rest(self) -> None:
        """Nobody comes back to a channel any more, so none waits for that. Raises BrokerUnavailable."""
        self._grace = 0.0
        while await self._look():
            pass
        for whose, queue in list(self._queues.items()):
            for telling in queue:
                telling.due = min(telling.due, self._scheduler.now())
            if not queue[0].failures:
                self._tell(whose, queue)
        while self._queues:
            self._is_idle.clear()
            await self._is_idle.wait()
            await self._look()

    def _room(self) -> tuple[int, int]:
        """How many ends and how many changes of channels to read now: none of what nobody wants to hear."""
        application = self._application
        ends = 0 if application.hears_ends else MOST_OPEN
        changes = 0 if application.hears_changes else MOST_OPEN
        for queue in self._queues.values():
            if isinstance(queue[0].event, DisconnectEvent | UnsubscribeEvent):
                ends += len(queue)
            else:
                changes += len(queue)
        return min(max(MOST_OPEN - ends, 0), PART), min(max(MOST_OPEN - changes, 0), PART)

    def _lag(self) -> float:
        oldest = min((queue[0].event.time for queue in self._queues.values()), default=None)
        return 0.0 if oldest is None else max(self._scheduler.time() - oldest / 1000, 0.0)

    async def _look(self) -> bool:
        """Whether there was something. Raises BrokerUnavailable."""
        await self._finish()
        happenings = await self._log.take(*self._room())
        if happenings is None:
            self._queues.clear()
            return False
        if happenings:
            # There may be more.
            self._looking.soon()
        for happening in happenings:
            try:
                self._add(_event(happening))
            except Exception:
                # It cannot be read, now or later.
                self._guard.failed("event", happening.id)
                self._heard.append(happening.id)
        return bool(happenings)

    async def _finish(self) -> None:
        """Raises BrokerUnavailable."""
        heard, self._heard = self._heard, []
        try:
            if heard:
                await self._log.finish(heard)
        except RequestError:
            self._heard = heard + self._heard
            raise

    def _add(self, event: AnyEvent) -> None:
        telling = _Telling(event, self._scheduler.now() + self._grace)
        queue = self._queues.get(event.whose)
        if queue is not None:
            queue.append(telling)
            return
        queue = self._queues[event.whose] = Queue([telling])
        self._tell(event.whose, queue)

    def _tell(self, whose: str, queue: Queue) -> None:
        if not self._guard.call("event", whose, self._go_on, whose, queue):
            queue[0].is_told = False
            self._scheduler.call_later(LAST_DELAY, partial(self._tell, whose, queue))

    def _go_on(self, whose: str, queue: Queue) -> None:
        """Tell the first of a queue."""
        # It may have become another node's turn.
        while self._queues.get(whose) is queue:
            telling, event = queue[0], queue[0].event
            ask = self._ask_of(event)
            if telling.is_told:
                return
            if ask is None:
                self._handled(whose, queue)
            elif isinstance(event, VacatedEvent) and (wait := telling.due - self._scheduler.now()) > 0:
                self._scheduler.call_later(wait, partial(self._tell, whose, queue))
                return
            elif _was_brief(queue):
                self._handled(whose, queue)
                self._handled(whose, queue)
            else:
                telling.is_told = True
                ask(event, partial(self._answered, whose, queue))
                return

    def _handled(self, whose: str, queue: Queue) -> None:
        self._heard.append(queue.popleft().event.id)
        if not queue:
            del self._queues[whose]
            if not self._queues:
                self._is_idle.set()

    def _answered(self, whose: str, queue: Queue, outcome: RequestError | Disconnect | None) -> None:
        if self._queues.get(whose) is not queue:
            return
        telling = queue[0]
        if outcome is None:
            self._handled(whose, queue)
            self._tell(whose, queue)
        elif self._scheduler.time() - telling.event.time / 1000 > KEPT:
            logger.error("gave up an event after %d s: %r", KEPT, telling.event)
            self._metrics.hook_events_dropped.add("expired")
            self._handled(whose, queue)
            self._tell(whose, queue)
        else:
            delay = min(FIRST_DELAY * 2**telling.failures, LAST_DELAY)
            telling.failures += 1
            telling.is_told = False
            self._scheduler.call_later(delay, partial(self._tell, whose, queue))

    def _ask_of(self, event: AnyEvent) -> Ask[Any, None] | None:
        """Whom to tell; None if nobody wants to know."""
        application = self._application
        if isinstance(event, DisconnectEvent):
            return application.disconnect
        hooks: Any = application.unsubscribe
        if not isinstance(event, UnsubscribeEvent):
            hooks = application.occupied if isinstance(event, OccupiedEvent) else application.vacated
        return hooks.find(namespace_of(event.channel) or "") if hooks is not None else None


def _was_brief(queue: Queue) -> bool:
    """Whether its channel was vacated only for a moment: neither that nor that it is occupied again is told.

    By the times of the events: a hook of another node may have heard the first already. Once it may have been heard,
    the second has to be told as well.
    """
    if len(queue) < 2 or queue[0].failures:
        return False
    event, following = queue[0].event, queue[1].event
    is_pair = isinstance(event, VacatedEvent) and isinstance(following, OccupiedEvent)
    return is_pair and following.time - event.time < EMPTY


def watched(application: Application, name: str) -> bool:
    """Whether the application wants to hear when a channel becomes occupied or vacated."""
    hooks: Sequence[Any] = [each for each in (application.occupied, application.vacated) if each is not None]
    return any(each.find(namespace_of(name) or "") is not None for each in hooks)


def _event(happening: Happening) -> AnyEvent:
    """Raises ValueError."""
    if happening.channel is not None:
        kind = OccupiedEvent if happening.is_occupied else VacatedEvent
        return kind(id=happening.id, time=happening.time, channel=happening.channel.name)
    assert happening.ending is not None
    return ended(happening.id, happening.time, happening.about, *happening.ending)
