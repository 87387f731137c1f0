"""A run: faults chosen by a seed, one after the other, and the account of them."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.faults import KINDS
from tests.faults.processes import ProcessError, Processes
from tests.faults.site import Pace, Site
from tests.faults.verdicts import Fault

# Seconds for which all is well before a fault.
LULL = 1.0
COLUMNS = ("times", "published", "delivered", "recovered", "refilled", "gaps", "lost", "duplicated", "misordered")
TITLES = {"gaps": "gaps announced"}

Counts = Counter[str]


class Run:
    """Does it and keeps the account by kind of fault."""

    def __init__(self, seed: int, pace: Pace, say: Callable[[str], None], *, durable: bool = False) -> None:
        """`say` is told what happens; `durable` as for Site."""
        self.rows: dict[str, Counts] = {}
        self.failures: list[str] = []
        # What else was seen, and how often.
        self.notes: Counter[str] = Counter()
        self._seed = seed
        self._pace = pace
        self._say = say
        self._durable = durable

    async def run(self, names: Sequence[str], seconds: float, folder: Path) -> None:
        """Each of these kinds once, then any of them until the time is over."""
        processes = Processes()
        site = Site(processes, folder, self._seed, self._pace, durable=self._durable)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        end = loop.time() + seconds
        try:
            await site.start()
            for name in _order(names, random.Random(self._seed)):
                if loop.time() >= end and len(self.rows) == len(names):
                    break
                await self._one(site, name)
            await site.finish()
        except (ProcessError, TimeoutError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        finally:
            self._judge(site)
            try:
                await site.stop()
            finally:
                processes.close()

    async def _one(self, site: Site, name: str) -> None:
        row = self.rows.setdefault(name, Counter())
        before = self._counts(site)
        started = time.monotonic()
        await asyncio.sleep(LULL)
        try:
            await KINDS[name].act(site)
            over = time.monotonic()
            await site.settle()
        except (ProcessError, TimeoutError) as error:
            raise ProcessError(f"in {name!r}: {type(error).__name__}: {error}") from error
        finally:
            row.update(self._counts(site) - before)
            row["times"] += 1
        took, settled = over - started, time.monotonic() - over
        self._say(f"{name}: {took:.1f} s, all at the top after {settled:.1f} s, {_wrong(row)}")

    def _counts(self, site: Site) -> Counts:
        checker = site.checker
        misordered = (Fault.MISORDERED, Fault.FORKED, Fault.FORGED, Fault.DENIED)
        return Counter(
            {
                "published": checker.acknowledged,
                "delivered": checker.deliveries,
                "recovered": checker.recovered,
                "refilled": site.counted["refilled"],
                "gaps": checker.gaps,
                "lost": checker.counts[Fault.LOST],
                "duplicated": checker.counts[Fault.DUPLICATED],
                "misordered": sum(checker.counts[each] for each in misordered),
            }
        )

    def _judge(self, site: Site) -> None:
        checker = site.checker
        for fault, count in checker.counts.items():
            self.failures.append(f"{fault.value}: {count}")
        for each in checker.violations:
            self.failures.append(f"  {each.fault.value} {each.channel} {each.client}: {each.text}; {list(each.events)}")
        self.failures += site.troubles()
        for name, row in self.rows.items():
            # Where nothing was lost with the server, no gap is to be told.
            shows = KINDS[name].shows - ({"gaps"} if self._durable else set())
            self.failures += [f"{name}: no {what}" for what in shows if not row[what]]
            if self._durable and row["gaps"]:
                self.failures.append(f"{name}: {row['gaps']} gaps, though Valkey is durable")
        self.notes.update(site.notes)
        self.notes["attempts to publish"] = checker.attempts
        self.notes["recoveries refused where the history held the range"] = checker.refused
        self.notes.update({f"nodes counted: {name}": count for name, count in site.counted.items()})

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """An error of this suite itself must not pass for silence."""
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def table(self) -> str:
        """One line for each kind of fault, and the sum."""
        total: Counts = Counter()
        for row in self.rows.values():
            total.update(row)
        lines = [("fault", *(TITLES.get(column, column) for column in COLUMNS))]
        lines += [
            (name, *(f"{row[column]:,}" for column in COLUMNS)) for name, row in [*self.rows.items(), ("all", total)]
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(line, widths, strict=True)) for line in lines)
        )


def _order(names: Sequence[str], dice: random.Random) -> Iterator[str]:
    """Rounds of all of them, each in another order."""
    while True:
        yield from dice.sample(names, len(names))


def _wrong(row: Counts) -> str:
    wrong = [f"{row[column]} {column}" for column in ("lost", "duplicated", "misordered") if row[column]]
    return ", ".join(wrong) if wrong else "nothing wrong"


@contextmanager
def folder() -> Iterator[Path]:
    """For the logs and data of the processes, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="gateway-faults-", ignore_cleanup_errors=True) as name:
        yield Path(name)
