"""docs/tutorial.md, followed word for word, with the packages that the tests have installed already."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.cluster.sdk import SDK_FOLDER, need_node
from tests.cluster.test_demo import played
from tests.docs.pages import blocks, write
from tests.servers import free_port, valkey_server
from tests.test_readme import environment, started, watch

COMMANDS = [each.code for each in blocks("tutorial") if each.language == "sh"]
LINES = ["ann: hi", "server: dinner", "bob: one", "bob: two"]


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    """The folder of the reader."""
    need_node()
    write("tutorial", tmp_path)
    (tmp_path / "node_modules").symlink_to(SDK_FOLDER / "node_modules")
    return tmp_path


def test_every_command_is_known() -> None:
    """Two install, the others are run here."""
    starts = ["mkdir chat", "uvicorn", "curl", "python -m pytest", "pip install", "gateway serve"]
    assert [code.startswith(start) for code, start in zip(COMMANDS, starts, strict=True)] == [True] * len(starts)


def moved(code: str, port: int) -> str:
    """The same with a port that is free."""
    return code.replace("localhost:8000", f"127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{port}")


def at(chat: Path, port: int) -> str:
    app = chat / "app.py"
    app.write_text(moved(app.read_text(), port))
    return f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_the_chat(chat: Path) -> None:
    """In two windows: members chat, others stay outside, the server speaks, and nobody misses a line."""
    port = free_port()
    url = at(chat, port)
    (announce,) = (each for each in COMMANDS if each.startswith("curl"))
    announced = moved(announce.split("'")[1], port)
    with started(watch(f"{COMMANDS[1].strip()} --port {port}"), environment(), chat) as server:
        server.expect("Uvicorn running")
        shown = played("tutorial.mjs", url, announced)
    assert shown == {"away": LINES[:2], "ann": LINES, "bob": LINES, "problems": []}


@pytest.mark.slow
def test_more_than_one_process(chat: Path) -> None:
    """With Redis, which the text takes for granted."""
    port = free_port()
    at(chat, port)
    with valkey_server() as valkey:
        command = COMMANDS[-1].strip().replace("redis://127.0.0.1:6379", valkey.url)
        env = environment(GATEWAY_LISTEN=f"127.0.0.1:{port}", GATEWAY_INTERNAL_LISTEN="", GATEWAY_DRAIN__WINDOW="0")
        with started(watch(command), env, chat) as server:
            for _ in range(4):
                server.expect("serving")
            for offset in (1, 2):
                answer = httpx.post(f"http://127.0.0.1:{port}/announce/cats?text=hi", trust_env=False)
                assert answer.json() == {"offset": offset}


def test_its_tests(chat: Path) -> None:
    """As the reader runs them."""
    (command,) = (each for each in COMMANDS if each.startswith("python -m pytest"))
    arguments = [*command.split()[1:], "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, *arguments], cwd=chat, timeout=60, check=True, stdout=subprocess.PIPE)
    assert b"2 passed" in done.stdout
