"""Blocking connections to one Redis server, of which a process has a bounded number."""

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import hiredis

from gateway.broker.redis import generation, lua
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import AT_ONCE, greetings, pack, tls_context, unreachable
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.publisher.known import STALE_AFTER

NAME = "gateway-publisher"

_NOTHING = object()
_LOADS = [pack("SCRIPT", "LOAD", script.text) for script in lua.PUBLISHING]


class Connection:
    """Pipelined commands, answered in order, by one thread at a time. Never sends anything again.

    Implements Server of stream_commands.
    """

    def __init__(self, target: Target, settings: RedisSettings, home: Keys) -> None:
        self._target = target
        self._settings = settings
        self._generation_key = home.generation()
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        # Whether an answer has not been read: an exception (a signal, a time limit) came in between.
        self.is_waiting = False
        self.generation = ""
        self.promotion = ""
        # When both were known to be right (monotonic seconds); None for never.
        self._looked_at: float | None = None
        # When the call that uses it has to end (monotonic seconds).
        self.deadline = 0.0

    def _within(self, seconds: float) -> float:
        """What an operation may take that takes so long at most."""
        return max(min(seconds, self.deadline - time.monotonic()), 0.001)

    def open(self) -> None:
        """Connect, unless it is connected. Raises BrokerUnavailable."""
        if self._socket is not None and _is_quiet(self._socket):
            return
        self.close()
        seconds = self._within(self._settings.connect_timeout)
        try:
            self._socket = _connected(self._target, self._settings, seconds)
            self._reader = hiredis.Reader(notEnoughData=_NOTHING)
            for reply in self.ask([*greetings(self._target, NAME), *_LOADS]):
                if isinstance(reply, Exception):
                    raise reply
        except (OSError, RequestError, hiredis.ReplyError) as error:
            self.close()
            raise unreachable(error, self._target, seconds) from error

    def look(self, *, durable: bool) -> None:
        """Connect, and know the generation of the server as nodes do. Raises BrokerUnavailable."""
        self.open()
        if durable:
            self.generation, self.promotion = generation.DURABLE, generation.UNWATCHED
            return
        try:
            self._look()
        except BrokerUnavailable:
            # It may have become a replica: next time, ask whatever is behind the address then.
            self.close()
            raise

    def _look(self) -> None:
        now = time.monotonic()
        if self._looked_at is not None:
            if now - self._looked_at < STALE_AFTER:
                return
            if self._has_ended():
                # Whatever is behind the address now.
                self.close()
                self.open()
        if self._looked_at is None:
            self._learn()
        self._looked_at = now

    def _has_ended(self) -> bool:
        try:
            name, replication = self.call(generation.name_command(self._generation_key), generation.REPLICATION)
            latest = generation.promotion(replication)
        except BrokerUnavailable:
            return True
        return generation.has_ended(name, self.generation) or generation.was_demoted(latest, self.promotion)

    def _learn(self) -> None:
        server, replication = self.call(generation.SERVER, generation.REPLICATION)
        run, latest = generation.run_id(server), generation.promotion(replication)
        (name,) = self.call(generation.naming(self._generation_key, run, latest))
        self.generation, self.promotion = name.decode(), latest

    def call(self, *commands: bytes) -> list[Any]:
        """The answers to commands that may be repeated. Raises BrokerUnavailable."""
        replies = self.ask(commands)
        for reply in replies:
            if isinstance(reply, RequestError):
                raise BrokerUnavailable(reply.detail)
            if isinstance(reply, hiredis.ReplyError):
                raise BrokerUnavailable(f"Redis refuses to tell: {reply}")
        return replies

    def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands, and wait for their replies: errors among them, as `Done` of link.py gets them."""
        replies: list[Any] = []
        seconds = self._within(self._settings.publish_timeout)
        deadline = time.monotonic() + seconds
        self.is_waiting = True
        try:
            self._write(b"".join(commands), seconds)
            while len(replies) < len(commands):
                if (reply := self._reader.gets()) is _NOTHING:
                    self._reader.feed(self._read(deadline - time.monotonic()))
                else:
                    replies.append(reply)
        except (OSError, hiredis.ProtocolError) as error:
            reason = f"no answer within {seconds:.2g} s" if isinstance(error, TimeoutError) else f"{error}"
            self.close()
            missing = len(commands) - len(replies)
            replies += [OutcomeUnknown(f"{reason}; it may or may not have been carried out", reason)] * missing
        self.is_waiting = False
        return replies

    def _write(self, data: bytes, seconds: float) -> None:
        assert self._socket is not None
        self._socket.settimeout(seconds)
        self._socket.sendall(data)

    def _read(self, seconds: float) -> bytes:
        assert self._socket is not None
        self._socket.settimeout(max(seconds, 0.001))
        if not (data := self._socket.recv(65536)):
            raise ConnectionError("Redis closed the connection")
        return data

    def close(self) -> None:
        """Disconnect. It can be opened again."""
        self._looked_at = None
        open_socket, self._socket = self._socket, None
        if open_socket is None:
            return
        if self.is_waiting and open_socket.family != socket.AF_UNIX:
            # What the kernel has not sent yet shall not arrive behind newer publishes (see Link).
            with suppress(OSError):
                open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.is_waiting = False
        with suppress(OSError):
            # At once, even if a forked process has a copy.
            open_socket.shutdown(socket.SHUT_RDWR)
        open_socket.close()

    def let_go(self) -> None:
        """In a forked process: close its copy, and leave the connection to the parent."""
        if self._socket is not None:
            self._socket.close()


class Pool:
    """The connections of one process to one server. A forked process needs a pool of its own."""

    def __init__(self, target: Target, settings: RedisSettings, home: Keys, size: int) -> None:
        self._parts = (target, settings, home)
        self._size = size
        self._free = threading.Semaphore(size)
        # The one that was used last comes first, so that connections that are not needed grow old.
        self._idle: deque[Connection] = deque()
        self._is_closed = False

    @contextmanager
    def one(self, seconds: float) -> Iterator[Connection]:
        """A connection for this thread alone, for so long at most. Raises BrokerUnavailable if all are in use."""
        started = time.monotonic()
        if not self._free.acquire(timeout=seconds):
            raise BrokerUnavailable(f"all {self._size} connections of the publisher (connections) are in use")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = Connection(*self._parts)
            connection.deadline = started + seconds
            try:
                yield connection
            finally:
                if connection.is_waiting or self._is_closed:
                    connection.close()
                self._idle.append(connection)
        finally:
            self._free.release()

    def let_go(self) -> None:
        """In a forked process: leave the connections to the parent."""
        for connection in list(self._idle):
            connection.let_go()

    def close(self) -> None:
        """Disconnect now, and what is in use afterwards."""
        self._is_closed = True
        for connection in list(self._idle):
            connection.close()


def _connected(target: Target, settings: RedisSettings, seconds: float) -> socket.socket:
    """Raises OSError."""
    if target.path:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(seconds)
            made.connect(target.path)
        except BaseException:
            made.close()
            raise
        return made
    made = socket.create_connection((target.host, target.port), seconds)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls_context(settings).wrap_socket(made, server_hostname=target.host) if target.tls else made
    except BaseException:
        made.close()
        raise


def _is_quiet(idle: socket.socket) -> bool:
    """Whether a connection without questions is as it was left: open, and nothing has come."""
    try:
        idle.settimeout(0)
        idle.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        pass
    return False
