"""Services that emit through Redis with libraries of Socket.IO, heard by one node at a time.

This is the one subscription of a node to what concerns all channels, so only the elected node has it.

Redis carries out commands one after another, and so every link hears all messages in one order. A node that takes over
subscribes, and then publishes a mark between the messages: the new link hears them from its mark on, the old one up to
there. So nothing is heard twice, however late a node notices that another was elected (it was suspended, say), and
nothing is missed where the old link lives. Keys of idempotency could not do that: the same event emitted twice is no
repetition, and two nodes that begin at different messages count them differently.

Keys: `listener` elects, `listened` (hash) has `until`, the newest mark that came back (Unix ms, by the clock of Redis),
and `to`, the link that the last one has handed over to.
"""

import asyncio
import enum
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count

import hiredis

from gateway.broker.base import Dialect
from gateway.broker.redis.election import Election
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import Link, connect, pack
from gateway.broker.redis.redis_registry import RedisRegistry, failing
from gateway.config.redis_url import Target
from gateway.config.settings import EmitterSettings, RedisSettings
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable
from gateway.guard import Guard
from gateway.metrics import Metrics
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

# Seconds between rounds: each asks whether this node is elected, and the one that listens publishes a mark.
INTERVAL = 1.0
# Seconds for which a node that stops still listens, until another one does.
PATIENCE = 3.0
# Messages that are taken in one turn of the loop: 10 to 30 us each. One read of the socket may bring thousands.
SLICE = 100

# Milliseconds within which the marks of a link have to come back to it. Otherwise it is at another server, say at a
# primary that was replaced.
DEAF = 5_000

# A mark: of a link that takes over, or one of the link that listens. The token of the link and the time follow.
TAKES_OVER = b"+"
GOES_ON = b"="


class _Turn(enum.Enum):
    WAITS = enum.auto()
    LISTENS = enum.auto()
    IS_OVER = enum.auto()


class _Ear:
    """One link that is subscribed to everything that services emit."""

    def __init__(self, token: bytes, emitters: bytes, managers: bytes, marks: bytes, guard: Guard) -> None:
        """`emitters` is a pattern, the others are channels of Redis."""
        self._loop = asyncio.get_running_loop()
        self.token = token
        self._pattern = emitters
        self._managers = managers
        self._marks = marks
        self._guard = guard
        self.link: Link
        self.heard: Callable[[Dialect, bytes], None]
        # Called when the turn is over.
        self.ended: Callable[[], object] = lambda: None
        self.turn = _Turn.WAITS
        # Unix ms, by the clock of Redis: when it sent its first mark, what came back of it, and the newest that did.
        self.taken = self.since = self.until = 0
        # Whose turn it is afterwards: the token of a link.
        self.successor = b""
        # Until when any link listened before it (ms; 0: not known), and whether that was told.
        self.before = 0
        self.is_told = False
        # It is subscribed, or lost.
        self.settled = asyncio.Event()
        self.began = asyncio.Event()
        # Its turn is over, or it is lost.
        self.over = asyncio.Event()
        self._missing = {emitters, managers, marks}
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._is_working = False

    @property
    def listens(self) -> bool:
        return self.turn is _Turn.LISTENS and not self.link.lost.done()

    async def subscribe(self, limit: float) -> None:
        """Returns when everything is subscribed. `limit` in seconds. Raises BrokerUnavailable."""
        for event in (self.settled, self.over):
            self.link.lost.add_done_callback(partial(_set, event))
        self.link.tell(pack("PSUBSCRIBE", self._pattern))
        self.link.tell(pack("SUBSCRIBE", self._managers, self._marks))
        try:
            async with asyncio.timeout(limit):
                await self.settled.wait()
        except TimeoutError:
            self.link.abort("it does not confirm subscriptions")
        except BaseException:
            self.link.abort("not subscribed")
            raise
        if self.link.lost.done():
            raise BrokerUnavailable(f"services that emit are not heard: {self.link.lost.result()}")

    def on_subscribed(self, name: bytes) -> None:
        self._missing.discard(name)
        if not self._missing:
            self.settled.set()

    def on_messages(self, messages: list[tuple[bytes, bytes]]) -> None:
        """Take them, a few in each turn of the loop. Meanwhile nothing is read, so that Redis keeps what else comes."""
        self._waiting.extend(messages)
        if not self._is_working:
            self._is_working = True
            self._work()

    def _work(self) -> None:
        for _ in range(min(SLICE, len(self._waiting))):
            name, payload = self._waiting.popleft()
            self._guard.call("emitters", name, self._take, name, payload)
        if self._waiting:
            self.link.pause_reading()
            self._loop.call_soon(self._work)
        else:
            self._is_working = False
            self.link.resume_reading()

    def _take(self, name: bytes, payload: bytes) -> None:
        if name == self._marks:
            self._pass(payload)
        elif self.turn is _Turn.LISTENS:
            self.heard(Dialect.MANAGER if name == self._managers else Dialect.EMITTER, payload)

    def _pass(self, mark: bytes) -> None:
        """A mark came between the messages."""
        kind, (token, _, time) = mark[:1], mark[1:].partition(b":")
        if token == self.token:
            if self.turn is _Turn.WAITS:
                self.turn = _Turn.LISTENS
                self.began.set()
                self.since = int(time)
            self.until = int(time)
        elif kind == TAKES_OVER and self.turn is _Turn.LISTENS:
            self.turn = _Turn.IS_OVER
            self.successor = token
            self.over.set()
            self.ended()


class RedisEmitters:
    """Implements the port. Every node has one; that of the elected node listens."""

    def __init__(
        self,
        settings: RedisSettings,
        names: EmitterSettings,
        uid: NodeId,
        keys: Keys,
        registry: RedisRegistry,
        publish_link: KeptLink,
        metrics: Metrics,
        guard: Guard,
        explains: Callable[[], bool],
    ) -> None:
        """`publish_link`: to the same server. `explains` is asked when a round has failed (see Repeating)."""
        assert settings.url is not None
        self._target = Target.of(settings.url.get_secret_value())
        self._settings = settings
        # The names that the libraries give to channels of Redis; all of the main namespace.
        self._pattern = f"{names.key}#/#*".encode()
        self._channel = names.channel.encode()
        self._uid = uid
        self._keys = keys
        self._registry = registry
        self._redis = publish_link
        self._metrics = metrics
        self._guard = guard
        self._election = Election(registry.client, keys.listener())
        self._rounds = Repeating(guard, "emitters", INTERVAL, self._round, explains)
        self._heard: Callable[[Dialect, bytes], None] = lambda dialect, message: None
        self._numbers = count()
        self._ear: _Ear | None = None
        # Until when this node has listened (ms), should Redis have lost that.
        self._until = 0
        metrics.emitters_heard.read = lambda: float(self._ear is not None and self._ear.listens)

    def start(self, heard: Callable[[Dialect, bytes], None]) -> None:
        self._heard = heard
        self._rounds.start()

    async def stop(self) -> None:
        await self._rounds.stop()
        ear = self._ear
        if ear is None:
            return
        with suppress(BrokerUnavailable, TimeoutError):
            async with self._failing(), asyncio.timeout(PATIENCE):
                await self._election.step_down(self._registry.lease)
                # The others may be stopping as well.
                while ear.listens and len(await self._registry.nodes()) > 1:
                    await self._give_way(ear)
                await self._leave(ear)
        self._drop(ear, "stopped")

    # Inside

    async def _give_way(self, ear: _Ear) -> None:
        """Wait a little for another node to listen."""
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL / 4):
                await ear.over.wait()

    async def _round(self) -> None:
        """Raises BrokerUnavailable."""
        if self._redis.current is None:
            # Not joined yet, or cut off: another node may do better.
            return
        async with self._failing():
            ear = self._ear
            if ear is not None and (ear.turn is _Turn.IS_OVER or ear.link.lost.done()):
                await self._leave(ear)
                self._drop(ear, "another node listens")
            if await self._election.is_won_by(self._registry.lease):
                await self._listen()

    async def _listen(self) -> None:
        """As the elected node."""
        ear = self._ear
        if ear is None:
            try:
                ear = self._ear = await self._open()
                await self._take_over(ear)
            except BaseException:
                if ear is not None:
                    self._drop(ear, "it could not take over")
                await self._election.step_down(self._registry.lease)
                raise
            return
        now = await self._mark(GOES_ON, ear)
        if now - max(ear.until, ear.taken) > DEAF:
            self._drop(ear, "it does not hear its own marks")
            self._rounds.soon()
        elif ear.listens:
            await self._note(ear)

    async def _take_over(self, ear: _Ear) -> None:
        """Returns when the link has heard its own mark."""
        ear.before = max(_number(await self._redis.ask("HGET", self._keys.listened(), "until")), self._until)
        ear.taken = await self._mark(TAKES_OVER, ear)
        async with asyncio.timeout(self._settings.connect_timeout):
            await ear.began.wait()
        # At once: the node may be killed before the next round.
        await self._redis.ask("HSET", self._keys.listened(), "until", ear.since)

    async def _open(self) -> _Ear:
        token = f"{self._registry.lease}.{next(self._numbers)}".encode()
        ear = _Ear(token, self._pattern, self._channel, self._keys.listening(), self._guard)
        ear.heard = self._heard
        ear.ended = self._rounds.soon
        timeout = self._settings.publish_timeout
        ear.link = await connect(
            self._target,
            self._settings,
            lambda: Link(timeout, self._guard, ear.on_messages, ear.on_subscribed),
            f"gateway-{self._uid}-emitters",
        )
        await ear.subscribe(self._settings.connect_timeout)
        return ear

    async def _mark(self, kind: bytes, ear: _Ear) -> int:
        """Publish a mark; its time."""
        seconds, microseconds = await self._redis.ask("TIME")
        now = int(seconds) * 1000 + int(microseconds) // 1000
        await self._redis.ask("PUBLISH", self._keys.listening(), b"%b%b:%d" % (kind, ear.token, now))
        return now

    async def _note(self, ear: _Ear) -> None:
        """Note until when was listened; the first time, say since when it was not."""
        if not ear.is_told:
            to = await self._redis.ask("HGET", self._keys.listened(), "to")
            ear.is_told = True
            self._tell(ear, is_seamless=to == ear.token)
        self._until = ear.until
        await self._redis.ask("HSET", self._keys.listened(), "until", ear.until)

    def _tell(self, ear: _Ear, *, is_seamless: bool) -> None:
        if is_seamless:
            logger.info("this node listens to services that emit, without a gap after the last one")
        elif not ear.before:
            logger.info("this node listens to services that emit; it is not known that one did before")
        else:
            seconds = max(ear.since - ear.before, 0) / 1000
            self._metrics.emitters_unheard.add(math.ceil(seconds))
            logger.warning(
                "this node listens to services that emit; for up to %.1f s none did, and what they emitted is lost",
                seconds,
            )

    async def _leave(self, ear: _Ear) -> None:
        """Let the link that follows know that there is no gap."""
        if ear.successor:
            await self._redis.ask("HSET", self._keys.listened(), "to", ear.successor)

    def _drop(self, ear: _Ear, reason: str) -> None:
        if not ear.link.lost.done():
            logger.info("this node does not listen to services that emit any more: %s", reason)
        self._until = max(self._until, ear.until)
        ear.link.abort(reason)
        self._ear = None

    @asynccontextmanager
    async def _failing(self) -> AsyncIterator[None]:
        what = "services that emit may not be heard"
        try:
            async with failing(what):
                yield
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"{what}: {error}") from None


def _set(event: asyncio.Event, reason: "asyncio.Future[str]") -> None:
    event.set()


def _number(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
