"""Runs a plan: starts the workers, and leads them through the stages to the result."""

import asyncio
import contextlib
import multiprocessing
import secrets
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from gateway_loadtest.counting.accounts import Published
from gateway_loadtest.counting.counters import Counts
from gateway_loadtest.planning.plan import Plan, StagePlan
from gateway_loadtest.planning.preflight import Prepared, prepare
from gateway_loadtest.probes import BEGIN, CONNECTED, END, Record, probes_of
from gateway_loadtest.results.assembly import assemble
from gateway_loadtest.results.result import CONNECTING, SETTLING, Moment, Outcome, Result
from gateway_loadtest.results.timeline import Timeline
from gateway_loadtest.running import worker
from gateway_loadtest.running.worker import (
    BeginStage,
    Broken,
    Connect,
    Count,
    EndStage,
    Finish,
    Finished,
    Found,
    Search,
)

# Seconds for a worker to answer, beyond what it waits for by itself.
PATIENCE = 30.0
# Seconds after which a run is given up in which everybody has met errors, and nobody is connected.
HOPELESS = 5.0
# Seconds between the order and the begin of a stage: all workers have heard of it by then.
LEAD = 0.2
# Seconds for answers that are missing when the run was interrupted.
HURRY = 1.0
# Seconds of silence after all has arrived: what comes twice may come later.
QUIET = 2.0
# Seconds of silence before the memory of all connections is read.
REST = 1.0

Progress = Callable[[str, Moment, int], None]


class WorkerError(Exception):
    """A worker failed or ended: the run cannot go on."""


class _Member:
    """One worker as the coordinator sees it."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe
        self.finished: Finished | None = None
        self.found: Found | None = None
        self.counts: Counts | None = None


class Coordinator:
    """One run."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        """`progress` is called every second with the stage, how it stands, and what was delivered in all. Raises
        PreflightError."""
        self._prepared: Prepared = prepare(plan)
        self._plan = self._prepared.plan
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._records = [Record(each) for each in probes_of(plan)]
        self._timeline = Timeline(self._prepared.workers, self._records)
        self._remarks = list(self._prepared.remarks)
        # Something that was to be measured did not happen.
        self._is_spoilt = False
        self._members: list[_Member] = []
        self._interrupted = asyncio.Event()
        self._trouble: str = ""
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()

    async def run(self) -> Result:
        """From the first connection to the result."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._interrupted.set)
        reading = self._loop.create_task(self._keep_reading())
        # None: the figures decide.
        outcome: Outcome | None = None
        try:
            self._start()
            await self._read_servers(BEGIN)
            if await self._connect():
                await self._stages()
            else:
                outcome = "unreachable"
            await self._finish()
        except WorkerError as error:
            self._remarks.append(str(error))
            outcome = "broken"
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.remove_signal_handler(number)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._stop()
        if self._interrupted.is_set():
            outcome = "interrupted"
        return assemble(
            self._plan,
            self._timeline,
            [each.counts for each in self._members if each.counts],
            started=started,
            outcome=outcome,
            remarks=self._remarks,
            spoilt=self._is_spoilt,
        )

    # Workers

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        run = secrets.token_hex(3)
        count = self._prepared.workers
        for index in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=worker.main,
                args=(theirs, self._plan, run, index, count),
                name=f"loadtest-{index}",
                daemon=True,
            )
            process.start()
            theirs.close()
            member = _Member(process, ours)
            self._members.append(member)
            self._loop.add_reader(ours.fileno(), self._hear, index, member)

    def _hear(self, index: int, member: _Member) -> None:
        try:
            message = member.pipe.recv()
        except (EOFError, OSError):
            self._loop.remove_reader(member.pipe.fileno())
            if member.counts is None:
                self._fail(f"worker {index} ended by itself")
            return
        match message:
            case Finished():
                member.finished = message
            case Found():
                member.found = message
            case Counts():
                member.counts = message
            case Broken(text):
                self._fail(f"worker {index} failed: {text}")
            case _:
                stage = self._timeline.stage_before
                moment = self._timeline.tick(index, message)
                if moment is not None:
                    self._progress(stage, moment, self._timeline.delivered)
        self._changed.set()

    def _fail(self, trouble: str) -> None:
        self._trouble = self._trouble or trouble
        self._changed.set()

    def _tell(self, message: Connect | BeginStage | EndStage | Finish | Search | Count) -> None:
        for member in self._members:
            with contextlib.suppress(OSError):
                member.pipe.send(message)

    async def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Raises WorkerError when a worker ends meanwhile."""
        deadline = self._loop.time() + seconds
        while not holds():
            if self._trouble:
                raise WorkerError(self._trouble)
            left = deadline - self._loop.time()
            if left <= 0:
                return False
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.5)):
                    await self._changed.wait()
        return True

    async def _stop(self) -> None:
        for member in self._members:
            self._loop.remove_reader(member.pipe.fileno())
            member.pipe.close()
        for member in self._members:
            await asyncio.to_thread(member.process.join, PATIENCE / 10)
            if member.process.is_alive():
                member.process.kill()
                await asyncio.to_thread(member.process.join)

    # The run

    async def _connect(self) -> bool:
        """Until all connections stand; False when some do not."""
        plan = self._plan
        self._timeline.enter(CONNECTING)
        self._tell(Connect())
        wanted = plan.connections + plan.publishers
        timeline, began = self._timeline, self._loop.time()

        def is_decided() -> bool:
            is_hopeless = timeline.errors and not timeline.ready and self._loop.time() - began > HOPELESS
            is_settled = timeline.ready + timeline.given_up >= wanted
            return is_settled or self._interrupted.is_set() or bool(is_hopeless)

        await self._until(is_decided, wanted / plan.connect_rate + plan.connect_timeout)
        if self._interrupted.is_set():
            return True
        if timeline.ready >= wanted:
            await self._pause(REST)
            await self._read_servers(CONNECTED)
            return True
        seconds = self._loop.time() - began
        self._remarks.append(f"{timeline.ready:,} of {wanted:,} connections were ready after {seconds:.0f} s")
        return False

    async def _stages(self) -> None:
        for stage in self._plan.stages:
            if self._interrupted.is_set():
                return
            self._timeline.enter(stage.name)
            begin = time.monotonic_ns() + int(LEAD * 1e9)
            self._tell(BeginStage(stage, self._plan.rate_of(stage), begin))
            commands = self._loop.create_task(self._commands(stage))
            await self._pause(LEAD + stage.seconds)
            if not self._interrupted.is_set():
                await commands
            commands.cancel()
            await asyncio.gather(commands, return_exceptions=True)
            if stage.commands:
                self._tell(EndStage())

    async def _commands(self, stage: StagePlan) -> None:
        """One after the other; the stage lasts until the last has ended."""
        await asyncio.sleep(LEAD)
        for number, command in enumerate(stage.commands):
            if number:
                await asyncio.sleep(stage.pause)
            process = await asyncio.create_subprocess_shell(
                command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                process.terminate()
                raise
            if status:
                self._remarks.append(f"the command ended with status {status}: {command}")
                self._is_spoilt = True

    async def _finish_publishing(self) -> None:
        """Until all answers have come, or are overdue; with Ctrl-C that is soon."""

        def is_over() -> bool:
            return all(each.finished for each in self._members)

        grace = self._plan.grace
        if not self._interrupted.is_set():
            self._tell(Finish(grace))
            await self._until(lambda: is_over() or self._interrupted.is_set(), grace + PATIENCE)
        if self._interrupted.is_set():
            self._tell(Finish(HURRY))
        if not await self._until(is_over, PATIENCE):
            raise WorkerError("a worker does not say what it has published")

    async def _finish(self) -> None:
        """Let everything arrive, and have it accounted for."""
        self._timeline.enter(SETTLING)
        await self._finish_publishing()
        published: dict[int, Published] = {}
        for each in self._members:
            assert each.finished is not None
            published |= each.finished.published
        expected = sum(each.accepted for each in published.values()) * self._plan.members
        await self._arrive(expected)
        await self._read_servers(END)
        if expected:
            await self._until_quiet()
        await self._search_for_excluded(published)
        self._tell(Count(published))
        if not await self._until(lambda: all(each.counts for each in self._members), PATIENCE):
            raise WorkerError("a worker does not account for what it has received")

    async def _search_for_excluded(self, published: dict[int, Published]) -> None:
        """What one subscriber has got was accepted, whatever was answered: then all have to have it."""
        excluded = {channel: each.excluded for channel, each in published.items() if each.excluded}
        if not excluded:
            return
        self._tell(Search(excluded))
        if not await self._until(lambda: all(each.found for each in self._members), PATIENCE):
            raise WorkerError("a worker does not say what it has received")
        for member in self._members:
            assert member.found is not None
            for channel, numbers in member.found.numbers.items():
                if numbers:
                    published[channel].include(numbers)

    async def _arrive(self, expected: int) -> None:
        """Until as much has been delivered as is expected and everybody is back, or nothing has come for a while."""
        timeline = self._timeline
        seen, since = (-1, -1), self._loop.time()
        while timeline.delivered < expected or timeline.standing < timeline.ready:
            if seen != (timeline.delivered, timeline.standing):
                seen, since = (timeline.delivered, timeline.standing), self._loop.time()
            if self._loop.time() - since > self._plan.grace or self._interrupted.is_set():
                return
            await self._pause(0.5)

    async def _until_quiet(self) -> None:
        """Until nothing has come for a while, or for as long as one waits for what is missing."""
        end = self._loop.time() + self._plan.grace
        seen = -1
        while seen != self._timeline.delivered and self._loop.time() < end and not self._interrupted.is_set():
            seen = self._timeline.delivered
            await self._pause(QUIET)

    async def _pause(self, seconds: float) -> None:
        """Ends early when interrupted. Raises WorkerError."""
        await self._until(self._interrupted.is_set, seconds)

    # The servers

    async def _read_servers(self, checkpoint: str = "") -> None:
        async with self._reading:
            await asyncio.gather(*(asyncio.to_thread(each.read, checkpoint) for each in self._records))

    async def _keep_reading(self) -> None:
        """Every second, as far as the servers answer in that time."""
        while True:
            await self._read_servers()
            await asyncio.sleep(1)


def run(plan: Plan, progress: Progress = lambda stage, moment, delivered: None) -> Result:
    """Run a plan in this process and others. Raises PreflightError."""

    async def work() -> Result:
        return await Coordinator(plan, progress).run()

    result: Any = asyncio.run(work())
    assert isinstance(result, Result)
    return result
