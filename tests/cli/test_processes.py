"""A family of processes: news, signals, and that nothing of it stays behind, however it ends."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.processes import ENDING, Child, Family, Interrupted
from gateway.errors import GatewayError
from tests.cli.commands import PATIENCE, wait_for

# Says that it is ready and stays.
STAYS = ("sh", "-c", "echo ready; exec sleep 1000")
# The same, and neither asking nor Ctrl-C ends it.
STUBBORN = ("sh", "-c", 'trap "" TERM INT HUP; echo ready; exec sleep 1000')


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No descriptor, no child and no handler is left by any of these tests."""
    before = descriptors(), [signal.getsignal(each) for each in ENDING]
    yield
    assert (descriptors(), [signal.getsignal(each) for each in ENDING]) == before
    assert signal.set_wakeup_fd(-1) == -1


def descriptors() -> set[str]:
    """Those that are open; the listing itself needs one for a moment."""
    return {each for each in os.listdir("/dev/fd") if Path(f"/dev/fd/{each}").exists()}


def is_child(pid: int) -> bool:
    """Whether this process still has to reap it."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def until_ready(family: Family, *children: Child) -> None:
    while not all(child.ready for child in children):
        assert family.wait(PATIENCE)


def until_ended(family: Family, child: Child) -> int:
    while child.code is None:
        assert family.wait(PATIENCE)
    return child.code


def signal_self(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)


def test_a_child_reads_its_orders_and_says_that_it_is_ready(tmp_path: Path) -> None:
    """More of them than a pipe holds."""
    orders = os.urandom(1 << 20)
    with Family() as family:
        child = family.start(
            "cat", ["sh", "-c", 'cat > "$1"; echo done', "sh", str(tmp_path / "orders")], orders=orders
        )
        until_ready(family, child)
        assert until_ended(family, child) == 0
        assert str(child) == f"cat (pid {child.pid})"
        assert child.ending() == "ended with exit code 0"
        assert not is_child(child.pid)
    assert (tmp_path / "orders").read_bytes() == orders


def test_a_child_that_reads_nothing_is_found_by_its_end() -> None:
    with Family() as family:
        child = family.start("deaf", ["sh", "-c", "exec <&-; exit 3"], orders=bytes(1 << 20))
        assert until_ended(family, child) == 3
        assert not child.ready
        assert child.ending() == "ended with exit code 3"


def test_a_killed_child_is_named_with_its_signal() -> None:
    """Or the signal's number, where it has no name."""
    with Family() as family:
        child = family.start("victim", STAYS)
        os.kill(child.pid, signal.SIGKILL)
        assert until_ended(family, child) == -signal.SIGKILL
        assert child.ending() == "was killed by SIGKILL"
        assert family.wait(0) == []
        child.code = -40
        assert child.ending() == "was killed by signal 40"


def test_what_cannot_be_started_is_named(tmp_path: Path) -> None:
    with Family() as family, pytest.raises(GatewayError, match="server cannot be started: No such file or directory"):
        family.start("server", [str(tmp_path / "missing")])


def test_a_child_inherits_its_sockets_and_nothing_else(tmp_path: Path) -> None:
    """An inherited lifeline would keep the watchdog waiting, an inherited listener would keep a port."""
    with socket.socket() as given, socket.socket() as other, Family(lambda: tmp_path / "private") as family:
        listing = ["sh", "-c", 'ls /dev/fd/ > "$1"', "sh", str(tmp_path / "listing")]
        assert until_ended(family, family.start("lister", listing, sockets=[given])) == 0
        found = set(map(int, (tmp_path / "listing").read_text().split()))
        assert given.fileno() in found
        assert other.fileno() not in found
        # 3: the listing itself
        assert found - {given.fileno()} <= {0, 1, 2, 3}


@pytest.mark.parametrize("signum", ENDING)
def test_a_signal_interrupts_the_wait_and_nothing_else(signum: signal.Signals) -> None:
    """It comes at the next wait, once; and the news that were there stay there."""
    with Family() as family:
        child = family.start("child", STAYS)
        signal_self(signum)
        signal_self(signum)
        with pytest.raises(Interrupted):
            family.wait()
        until_ready(family, child)
        assert family.wait(0) == []


def test_a_signal_while_it_is_set_up_leaves_no_directory(tmp_path: Path) -> None:
    """Between the directory and whoever removes it."""

    def make() -> Path:
        path = tmp_path / "private"
        path.mkdir()
        for each in ENDING:
            signal_self(each)
        return path

    with Family(make) as family:
        with pytest.raises(Interrupted):
            family.wait()
        assert family.directory is not None
        assert family.directory.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_family_that_cannot_be_set_up_gives_everything_back() -> None:
    def fail() -> Path:
        raise GatewayError("no directory")

    with pytest.raises(GatewayError, match="no directory"):
        Family(fail).__enter__()


def test_nohup_is_respected() -> None:
    """A terminal that is closed ends nothing that was started to survive it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Family() as family:
            signal_self(signal.SIGHUP)
            assert family.wait(0) == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sighup_can_mean_something_else() -> None:
    """As often as it comes, while the family runs and while it ends; with a signal that ends, it ends."""
    with Family() as family:
        hangups: list[int] = []
        family.on_hangup = lambda: hangups.append(1)
        for count in (1, 2):
            signal_self(signal.SIGHUP)
            assert family.wait(0) == []
            assert len(hangups) == count
        child = family.start("stubborn", STUBBORN)
        until_ready(family, child)
        signal_self(signal.SIGHUP)
        assert family.stop([child], 0.1) == [child]
        assert len(hangups) == 3
        signal_self(signal.SIGHUP)
        signal_self(signal.SIGTERM)
        with pytest.raises(Interrupted):
            family.wait(0)


def test_a_closed_terminal_ends_the_family() -> None:
    """Whatever else SIGHUP may mean."""
    master, slave = os.openpty()
    saved = os.dup(0)
    others = [os.dup(each) for each in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(slave, 0)
        # The terminal of the one who runs the tests stays open.
        for each in (1, 2):
            os.dup2(null, each)
        with Family() as family:
            family.on_hangup = lambda: pytest.fail("nobody is there")
            os.close(master)
            signal_self(signal.SIGHUP)
            with pytest.raises(Interrupted):
                family.wait(0)
    finally:
        for each, before in enumerate((saved, *others)):
            os.dup2(before, each)
            os.close(before)
        os.close(slave)
        os.close(null)


def test_children_are_in_a_group_of_their_own() -> None:
    """The Ctrl-C of a terminal goes to its foreground group: the parent decides how they end."""
    with Family() as family:
        groups = {os.getpgid(family.start("child", STAYS).pid) for _ in range(2)}
        assert len(groups) == 1
        assert groups != {os.getpgid(0)}


def test_what_still_runs_is_killed_at_the_end(tmp_path: Path) -> None:
    """Also what was stopped, or does not listen; and the directory goes."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "file").touch()
    with Family(lambda: private) as family:
        children = [family.start("child", command) for command in (STAYS, STUBBORN)]
        until_ready(family, *children)
        os.kill(children[0].pid, signal.SIGSTOP)
    assert [child.code for child in children] == [-signal.SIGKILL] * 2
    assert not any(is_child(child.pid) for child in children)
    assert list(tmp_path.iterdir()) == []


def test_stop_returns_those_that_do_not_end() -> None:
    """In time, and asks only those it was told to."""
    with Family() as family:
        obedient, stubborn, other = (family.start("child", command) for command in (STAYS, STUBBORN, STAYS))
        until_ready(family, obedient, stubborn, other)
        assert family.stop([obedient, stubborn], 0.2) == [stubborn]
        assert (obedient.code, other.code) == (-signal.SIGTERM, None)
        assert family.stop([obedient], PATIENCE) == []


def test_the_signal_to_stop_with_is_for_those_that_are_ready() -> None:
    """The others may not know it yet. Who is stopped by a signal can tell which."""
    with Family() as family:
        ready, starting = (family.start("child", command) for command in (STAYS, ("sleep", "1000")))
        until_ready(family, ready)
        assert family.stop([ready, starting], PATIENCE, signal.SIGINT) == []
        assert (ready.code, starting.code) == (-signal.SIGINT, -signal.SIGTERM)
        signal_self(signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            family.wait(0)
        assert caught.value.signals == {signal.SIGINT}


def test_a_second_signal_cuts_the_stop_short() -> None:
    """The children are asked again, and what does not end then is left after a moment."""
    twice = (
        "sh",
        "-c",
        "trap 'trap \"exit 7\" TERM; kill -INT $PPID' TERM; echo ready; while :; do sleep 9 >/dev/null & wait; done",
    )
    with Family() as family:
        asked, stubborn = family.start("asked", twice), family.start("stubborn", STUBBORN)
        until_ready(family, asked, stubborn)
        assert family.stop([asked, stubborn], 3600) == [stubborn]
        assert asked.code == 7


PARENT = """
import os, sys, tempfile
from pathlib import Path
from gateway.cli.processes import Family

def make():
    return Path(tempfile.mkdtemp(dir=sys.argv[1]))

with Family(make) as family:
    print("entered", flush=True)
    command = ["sh", "-c", 'touch "$1/made" 2>/dev/null; sleep 1000 & exec sleep 1000', "sh", family.directory]
    while True:
        family.start("child", command)
        print("started", flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 7])
def test_nothing_survives_a_killed_parent(tmp_path: Path, lines: int) -> None:
    """Whenever it is killed: everybody's standard error comes to its end, and the directory is gone."""
    delay = random.Random(lines).random() * 0.02
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        for _ in range(lines):
            assert parent.stdout.readline()
        # No event marks the middle of a fork: any moment will do.
        with pytest.raises(subprocess.TimeoutExpired):
            parent.wait(delay)
        parent.kill()
        assert parent.stderr.read() == ""
    # The watchdog, which has no such end, removes it first or last.
    wait_for(lambda: list(tmp_path.iterdir()) == [])
