"""Options of the whole test run."""

import gc
import os
import signal
import sys
from collections.abc import Generator

import hypothesis
import pytest

# Under nohup, and where a shell runs the tests in the background, these are ignored; also by the processes of the
# tests, some of which show what they do.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where bytecode is not to be kept, each of the hundreds of processes that the tests start would compile all of gateway
# again, which is most of what its start takes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How coverage tells a process to trace itself.
TRACES_PROCESSES = "COVERAGE_PROCESS_CONFIG"
TRACES = os.environ.get(TRACES_PROCESSES, "")

# Hypothesis fails an example that takes longer than 200 ms, which on a busy machine any of them does.
hypothesis.settings.register_profile("gateway", deadline=None)
hypothesis.settings.load_profile("gateway")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="A skipped test fails: for machines that have everything.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, or at the end one of the processes would wait for the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Coverage follows the processes of a slow test only where it is `traced`: they would be late."""
    if not TRACES:
        return
    if item.get_closest_marker("slow") and not item.get_closest_marker("traced"):
        os.environ.pop(TRACES_PROCESSES, None)
    else:
        os.environ[TRACES_PROCESSES] = TRACES


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What the last test of a file leaves unclosed fails that file, not one that happens to run later."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fails = item.config.getoption("no_skips") and not item.get_closest_marker("registry")
    if report.skipped and fails and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and --no-skips was given: {call.excinfo.value if call.excinfo else ''}"
    return report
