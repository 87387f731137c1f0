"""What stands in the terminal while a run goes on."""

from io import StringIO

from msgspec import structs
from rich.console import Console

from gateway_loadtest.planning.plan import Plan, StagePlan
from gateway_loadtest.reporting.display import BLOCKS, CURVE, Display
from gateway_loadtest.results.result import Moment

PLAN = Plan(scenario="rooms", targets=("ws://a:1",), stages=(StagePlan("steady", 10.0),), channels=50, members=10)
NOW = Moment(3.0, 480, 100, 1000, 2, 1.25, 4.5, 9.75, 0.4, [0.2, 0.3])


def display(*, terminal: bool, quiet: bool = False) -> tuple[Display, StringIO]:
    out = StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, color_system=None)
    return Display(PLAN, console, quiet=quiet), out


def test_a_terminal_shows_how_the_run_stands() -> None:
    """Connections, rates with their curve, percentiles, CPU and errors; drawn over what stood there."""
    view, out = display(terminal=True)
    with view:
        for delivered in (0, 500, 1000):
            view.show("steady", structs.replace(NOW, delivered=delivered), delivered + 500)
        drawn = out.getvalue()
    for part in ("rooms: steady", "480 of", "100/s", "1,500 in all", "p50 1.25 ms", "max 9.75 ms", "servers 50%"):
        assert part in drawn
    assert f"{BLOCKS[0]}{BLOCKS[3]}{BLOCKS[-1]}" in drawn
    # Errors add up.
    assert drawn.rstrip().splitlines()[-1].split()[-1] == "6"


def test_the_curve_has_an_end() -> None:
    """A soak of hours takes no more room than a minute."""
    view, out = display(terminal=True)
    with view:
        for _ in range(3 * CURVE):
            view.show("steady", NOW, 0)
    assert BLOCKS[-1] * CURVE in out.getvalue()
    assert BLOCKS[-1] * (CURVE + 1) not in out.getvalue()


def test_elsewhere_it_is_a_line_now_and_then() -> None:
    """A stage begins with one; a log is not flooded."""
    view, out = display(terminal=False)
    with view:
        for stage in ("connect", "connect", "connect", "steady", "steady"):
            view.show(stage, NOW, 0)
    lines = out.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["connect", "steady"]
    assert "1,000 delivered/s" in lines[0]


def test_quiet_says_nothing() -> None:
    for terminal in (True, False):
        view, out = display(terminal=terminal, quiet=True)
        with view:
            view.show("steady", NOW, 0)
        assert out.getvalue() == ""
