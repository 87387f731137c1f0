"""How the run stands, once a second, in the terminal."""

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway_loadtest.planning.plan import Plan
from gateway_loadtest.results.result import Moment

BLOCKS = "▁▂▃▄▅▆▇█"
# Seconds that the small curve shows.
CURVE = 40
# Seconds between lines where the output is no terminal.
LINE_INTERVAL = 5.0


class Display:
    """A view that is drawn anew in a terminal; a line now and then elsewhere; nothing when quiet."""

    def __init__(self, plan: Plan, console: Console, *, quiet: bool) -> None:
        self._plan = plan
        self._console = console
        self._quiet = quiet
        self._rates: deque[int] = deque(maxlen=CURVE)
        self._delivered = 0
        self._errors = 0
        self._stage = ""
        self._since = time.monotonic()
        self._printed = 0.0
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, stage: str, moment: Moment, delivered: int) -> None:
        """Called once a second; `delivered` in all."""
        if stage != self._stage:
            self._stage = stage
            self._since = time.monotonic()
            self._printed = 0.0
        self._rates.append(moment.delivered)
        self._delivered = delivered
        self._errors += moment.errors
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(self._picture(moment), refresh=True)
        elif time.monotonic() - self._printed >= LINE_INTERVAL:
            self._printed = time.monotonic()
            self._console.print(self._line(moment), highlight=False, soft_wrap=True)

    def _line(self, moment: Moment) -> str:
        return (
            f"{moment.at:6.0f} s  {self._stage:<10}  {moment.connections:,} connections  "
            f"{moment.published:,} published/s  {moment.delivered:,} delivered/s  "
            f"p50 {_milliseconds(moment.p50)}  p99 {_milliseconds(moment.p99)}  {self._errors:,} errors"
        )

    def _picture(self, moment: Moment) -> Group:
        table = Table.grid(padding=(0, 2))
        top = max([*self._rates, 1])
        curve = "".join(BLOCKS[rate * (len(BLOCKS) - 1) // top] for rate in self._rates)
        wanted = self._plan.connections + self._plan.publishers
        rows = [
            ("connections", f"{moment.connections:,} of {wanted:,}"),
            ("published", f"{moment.published:,}/s"),
            ("delivered", f"{moment.delivered:,}/s   {self._delivered:,} in all   {curve}"),
            (
                "delivery",
                "   ".join(
                    f"{name} {_milliseconds(value)}"
                    for name, value in (("p50", moment.p50), ("p99", moment.p99), ("max", moment.max))
                ),
            ),
            ("CPU", f"generator {moment.generator_cpu:.0%}   servers {sum(moment.server_cpu):.0%}"),
            ("errors", f"{self._errors:,}"),
        ]
        for name, value in rows:
            table.add_row(Text(name, style="dim"), Text(value))
        seconds = next((each.seconds for each in self._plan.stages if each.name == self._stage), 0.0)
        passed = time.monotonic() - self._since
        bar = ProgressBar(total=max(seconds, 1.0), completed=min(passed, seconds or passed), width=40)
        title = Text(f"{self._plan.scenario}: {self._stage}  {moment.at:.0f} s", style="bold")
        return Group(title, bar, table)


def _milliseconds(value: float) -> str:
    """Nothing was delivered where it is 0."""
    return f"{value:.2f} ms" if value else "-"
