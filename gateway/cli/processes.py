"""Processes that end together: children that die with their parent, even when it is killed."""

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from gateway.errors import GatewayError
from gateway.hangup import Terminal

# Signals that ask this process to end. SIGHUP: the terminal was closed, or settings are to be read again.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds that a second signal leaves the children.
LAST_WORDS = 0.5

# Waits for the end of the parent, then removes the directories it was given and kills its process group. With the
# parent the group is orphaned, and where a member is stopped the system then sends SIGHUP to all of them (POSIX).
_WATCHDOG = 'trap "" HUP; read -r _; rm -rf -- "$@"; kill -s KILL 0'


class Interrupted(Exception):
    """Signals asked this process to end: these."""

    def __init__(self, signals: Collection[int]) -> None:
        super().__init__()
        self.signals = signals


class Child:
    """A process of the family.

    Its standard output is a pipe to the parent: anything it writes there means that it is `ready`, and the end of the
    pipe means that it has ended.
    """

    __slots__ = ("_process", "code", "name", "ready")

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.ready = False
        # As Popen.returncode: None while it runs, negative after a signal.
        self.code: int | None = None
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"

    def fileno(self) -> int:
        """Readable when there is news."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> None:
        """Take in the news; blocks when there is none."""
        if os.read(self.fileno(), 4096):
            self.ready = True
        else:
            self.reap()

    def end(self, signum: signal.Signals) -> None:
        """Ask it to end. One that is not ready may not know any other signal than SIGTERM."""
        self._process.send_signal(signum if self.ready else signal.SIGTERM)

    def hang_up(self) -> None:
        """Ask it to read its settings again."""
        self._process.send_signal(signal.SIGHUP)

    def reap(self) -> None:
        """Wait for the end of a child that ends or was killed."""
        assert self._process.stdout is not None
        self.code = self._process.wait()
        self._process.stdout.close()

    def ending(self) -> str:
        """How it ended, in words."""
        assert self.code is not None
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        # Real-time signals have no names.
        names = {each.value: each.name for each in signal.Signals}
        return f"was killed by {names.get(-self.code, f'signal {-self.code}')}"


class Family:
    """This process and its children, who die with it.

    They share a process group. Its leader is a shell that reads from a pipe whose other end only this process holds.
    However this process ends, the shell then kills the group, including stopped processes. (PR_SET_PDEATHSIG of Linux
    does not exist on macOS and needs a wrapper for programs that are not ours.) As a group of their own, the children
    do not get Ctrl-C from the terminal, so this process decides how they end.

    As a context it also takes over the signals of ENDING: `wait` raises them as Interrupted. Main thread only.
    """

    def __init__(self, make_directory: Callable[[], Path] | None = None) -> None:
        """The `directory` that is made is removed when the family ends, however it ends."""
        self.directory: Path | None = None
        # Called on SIGHUP, unless the terminal was closed. None: SIGHUP ends the family.
        self.on_hangup: Callable[[], None] | None = None
        self._terminal = Terminal()
        self._make_directory = make_directory
        self._children: list[Child] = []
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with self._undo:
            # Before the directory: a signal in between would leave it behind.
            self._take_signals()
            if self._make_directory is not None:
                self.directory = self._make_directory()
                self._undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self._start_watchdog()
            self._undo = self._undo.pop_all()
        return self

    def _take_signals(self) -> None:
        self._signals, wakeup = (self._undo.enter_context(end) for end in socket.socketpair())
        for end in (self._signals, wakeup):
            end.setblocking(False)
        self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wakeup.fileno()))
        for each in ENDING:
            # nohup ignores SIGHUP on purpose
            if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN:
                self._undo.callback(signal.signal, each, signal.signal(each, _leave_to_wakeup))

    def _start_watchdog(self) -> None:
        watched, lifeline = os.pipe()
        self._undo.callback(os.close, lifeline)
        try:
            self._watchdog = subprocess.Popen(  # noqa: S603  # nothing in it but our own paths
                ["/bin/sh", "-c", _WATCHDOG, "gateway-watchdog", *filter(None, [self.directory])],
                stdin=watched,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        finally:
            os.close(watched)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs."""
        with self._undo:
            # macOS answers EPERM for a group of zombies.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._watchdog.pid, signal.SIGKILL)
            self._watchdog.wait()
            for child in self._children:
                child.reap()

    def start(
        self, name: str, command: Sequence[str], *, orders: bytes = b"", sockets: Iterable[socket.socket] = ()
    ) -> Child:
        """Start a child that reads `orders` from its standard input and inherits the sockets.

        Secrets belong into `orders`: everybody on the machine sees commands. Raises GatewayError.
        """
        try:
            process = subprocess.Popen(  # noqa: S603  # commands are built in this package
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[each.fileno() for each in sockets],
                process_group=self._watchdog.pid,
            )
        except OSError as error:
            raise GatewayError(f"{name} cannot be started: {error.strerror}") from error
        child = Child(name, process)
        self._children.append(child)
        assert process.stdin is not None
        # `wait` finds a child that died at once.
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(orders)
        return child

    def wait(self, seconds: float | None = None) -> list[Child]:
        """Wait for news from the children and return those that have any; none after `seconds`.

        Raises Interrupted when a signal came.
        """
        sources: list[socket.socket | Child] = [self._signals, *self._children]
        readable, _, _ = select.select(sources, [], [], seconds)
        if self._signals in readable:
            self._take(self._signals.recv(64))
        news = [child for child in self._children if child in readable]
        for child in news:
            child.read()
        self._children = [child for child in self._children if child.code is None]
        return news

    def _take(self, numbers: bytes) -> None:
        """Signals that came. Raises Interrupted."""
        if self.on_hangup is None or self._terminal.is_closed or set(numbers) != {signal.SIGHUP}:
            raise Interrupted(set(numbers))
        self.on_hangup()

    def stop(self, children: Iterable[Child], seconds: float, signum: signal.Signals = signal.SIGTERM) -> list[Child]:
        """Ask these children to end, wait for `seconds` at most, and return those that still run.

        A signal meanwhile asks them again, and leaves them LAST_WORDS.
        """
        children = list(children)
        deadline = time.monotonic() + seconds
        self._end(children, signum)
        while any(child.code is None for child in children) and (left := deadline - time.monotonic()) > 0:
            try:
                self.wait(left)
            except Interrupted:
                self._end(children, signum)
                deadline = min(deadline, time.monotonic() + LAST_WORDS)
        return [child for child in children if child.code is None]

    def _end(self, children: list[Child], signum: signal.Signals) -> None:
        for child in children:
            if child.code is None:
                child.end(signum)


def _leave_to_wakeup(number: int, frame: FrameType | None) -> None:
    """The byte that Python writes to the wake-up descriptor is enough."""
