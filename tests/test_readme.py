"""README and guide tell the truth: every command in them works as it is written. The table of settings is fresh."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from cent import Client, PresenceStatsRequest, PublishRequest

from tests.cluster.sdk import PATIENCE, SDK_FOLDER, need_node
from tests.cluster.way import Way
from tests.clusters import Cluster, running_cluster
from tests.servers import free_port, valkey_server
from tests.settings_table import PAGE, with_table

REPOSITORY = Path(__file__).parents[1]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "guide.md")
LINKED = (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("deploy/*/*.md"))
BIN = Path(sys.executable).parent
ADDRESS = "127.0.0.1:8000"
PLACEHOLDER = "<openssl rand -hex 32>"
SAME_SECRET = "<the same as auth.hmac_secret>"


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    code: str


BLOCKS = [
    Block(*found) for page in PAGES for found in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S)
]


def block(start: str) -> Block:
    """The block whose code starts like this; every block is asked for by some test below."""
    (found,) = [each for each in BLOCKS if each.code.startswith(start)]
    return found


RUN_HERE = (
    "make demo",
    "pip install",
    "./deploy/secrets.sh",
    "gateway cluster --no-auth",
    "gateway subscribe",
    "curl http://127.0.0.1:8000/api/publish -H 'X-Centrifugo",
    "from cent",
    "import { Centrifuge }",
    "wscat",
    "listen =",
    "gateway check",
    "gateway-loadtest",
    "gateway serve",
    "from gateway.tokens",
    'curl http://127.0.0.1:8000/api/publish -H "X-API-Key',
    "// Prints each order once",
    "# Prints each order once",
    "GATEWAY_CHANNELS__DELIVERY=latest",
    "set_value()",
)


def test_the_table_of_settings_is_fresh() -> None:
    """`python -m tests.settings_table` writes it."""
    assert PAGE.read_text() == with_table(PAGE.read_text())


def test_every_block_is_run_by_a_test() -> None:
    """A new one has to find its test."""
    assert [each.code.partition("\n")[0] for each in BLOCKS if not each.code.startswith(RUN_HERE)] == []
    for start in RUN_HERE:
        assert block(start)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    """To files of the repository, and to headings in them."""
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not heading or heading in anchors(file), f"{target}#{heading}"


def anchors(page: Path) -> list[str]:
    """As GitHub makes them of headings: small letters, hyphens for spaces, no other punctuation."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def environment(**more: str) -> dict[str, str]:
    """Of a user who has activated the virtual environment and installed the npm packages."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    path = f"{BIN}:{SDK_FOLDER / 'node_modules' / '.bin'}:{os.environ['PATH']}"
    return {**inherited, "PATH": path, "GATEWAY_LOG__FORMAT": "human", **more}


class Running:
    """A command that goes on; its standard output can be waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def expect(self, text: str) -> str:
        """The next line with this text."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            if text in line:
                return line
            seen.append(line)
        raise AssertionError(f"no {text!r}; instead: {seen}")

    def next_line(self) -> str:
        """The next line, without its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")


@contextmanager
def started(code: str, env: dict[str, str], cwd: Path, patience: float = PATIENCE) -> Iterator[Running]:
    """A shell command as from a terminal, which Ctrl-C ends."""
    process = subprocess.Popen(
        ["bash", "-euc", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    watchdog = threading.Timer(patience, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        yield Running(process)
    finally:
        watchdog.cancel()
        with_group(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            with_group(process.pid, signal.SIGKILL)
            process.communicate()
            raise


def with_group(leader: int, signum: signal.Signals) -> None:
    """Signal a whole foreground group, as a terminal does."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signum)


def finished(code: str, env: dict[str, str], cwd: Path) -> str:
    """The output of a shell command that succeeds."""
    done = subprocess.run(
        ["bash", "-euc", code], env=env, cwd=cwd, text=True, timeout=PATIENCE, stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == 0, code
    return done.stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster("--no-auth", nodes=3) as running:
        yield running


@pytest.fixture
def watching(cluster: Cluster, tmp_path: Path) -> Iterator[Running]:
    """The second terminal."""
    with started(watch(block("gateway subscribe").code), environment(GATEWAY_URL=cluster.url), tmp_path) as running:
        running.expect("subscribed to hello")
        yield running


def watch(code: str) -> str:
    """The command with what it says on standard error, line by line."""
    return f"PYTHONUNBUFFERED=1 {code.rstrip()} 2>&1"


def here(code: str, cluster: Cluster) -> str:
    """The code with the address of the test's cluster."""
    return code.replace(ADDRESS, cluster.url.removeprefix("http://"))


@pytest.mark.slow
def test_publish_with_curl(cluster: Cluster, watching: Running, tmp_path: Path) -> None:
    code = here(block("curl http://127.0.0.1:8000/api/publish -H 'X-Centrifugo").code, cluster)
    answer = finished(code, environment(), tmp_path)
    assert json.loads(answer)["result"]["offset"] == 1
    assert watching.expect("from curl")


@pytest.mark.slow
def test_publish_from_python(cluster: Cluster, watching: Running) -> None:
    subprocess.run([sys.executable, "-c", here(block("from cent").code, cluster)], check=True, timeout=PATIENCE)
    assert watching.expect("from Python")


@pytest.mark.slow
def test_publish_from_javascript(cluster: Cluster, watching: Running) -> None:
    command = in_javascript(here(block("import { Centrifuge }").code, cluster))
    with started(command, environment(), SDK_FOLDER) as running:
        assert running.expect("from JavaScript")
        assert watching.expect("from JavaScript")


def in_javascript(code: str) -> str:
    """The command that runs it; where Node.js is older than 22, with the WebSocket class that it lacks."""
    prelude = 'import WebSocket from "ws"; globalThis.WebSocket ??= WebSocket;\n'
    return f"{need_node()} --input-type=module -e {shell_quoted(prelude + code)}"


@pytest.mark.slow
def test_recovery_in_javascript(cluster: Cluster) -> None:
    recover(cluster, "// Prints each order once", in_javascript, "orders-js")


@pytest.mark.slow
def test_recovery_in_python(cluster: Cluster) -> None:
    recover(cluster, "# Prints each order once", in_python, "orders-python")


@pytest.mark.slow
def test_latest_values(tmp_path: Path) -> None:
    """The newest of each key, with their ages."""
    address = f"127.0.0.1:{free_port()}"
    env = environment(GATEWAY_LISTEN=address, GATEWAY_INTERNAL_LISTEN="127.0.0.1:0", GATEWAY_URL=f"http://{address}")
    with started(watch(block("GATEWAY_CHANNELS__DELIVERY=latest").code), env, tmp_path) as node:
        node.expect("serving")
        code = "exec 2>&1; export PYTHONUNBUFFERED=1\n" + block("set_value()").code.replace(ADDRESS, address)
        with started(code, env, tmp_path) as shell:
            shell.expect("subscribed to hall")
            shown = [json.loads(shell.next_line()) for _ in range(2)]
    assert [(each["tags"].pop("age").isdecimal(), each["data"], each["tags"]) for each in shown] == [
        (True, 21.5, {"key": "temperature"}),
        (True, 40, {"key": "humidity"}),
    ]


def in_python(code: str) -> str:
    return f"{sys.executable} -c {shell_quoted(code)}"


def recover(cluster: Cluster, start: str, command: Callable[[str], str], channel: str) -> None:
    """The example gets what was published while its connection was cut, on another node."""
    first, second, third = cluster.nodes
    backend = Client(f"{third.url}/api", api_key="none")

    def publish(data: str) -> None:
        backend.publish(PublishRequest(channel=channel, data=data))

    with closing(Way(first)) as way:
        code = block(start).code.replace(ADDRESS, way.address).replace('"orders"', f'"{channel}"')
        with started(command(code), environment(), SDK_FOLDER) as running:
            wait_for_subscriber(backend, channel)
            publish("one")
            running.expect("order one")
            way.close_to_new()
            way.cut()
            publish("two")
            publish("three")
            way.open_to(second)
            for expected in ("two", "three"):
                assert running.next_line() == f"order {expected}"


def wait_for_subscriber(backend: Client, channel: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not backend.presence_stats(PresenceStatsRequest(channel=channel)).num_clients:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_publish_with_wscat(cluster: Cluster, watching: Running, tmp_path: Path) -> None:
    """Its output is for terminals; what it sends is seen elsewhere."""
    need_node()
    code = f"(sleep 5; echo 'from wscat'; sleep 30) | {block('wscat').code}"
    with started(code, environment(GATEWAY_URL=cluster.url), tmp_path):
        assert watching.expect("from wscat")


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.slow
def test_a_cluster_without_authentication_starts(tmp_path: Path) -> None:
    """The default port may be taken on this machine: the cluster then takes another and says so."""
    with started(block("gateway cluster --no-auth").code, environment(), tmp_path) as running:
        assert len(json.loads(running.expect("ready ").removeprefix("ready "))["nodes"]) == 3


@pytest.mark.slow
def test_a_cluster_without_authentication_is_load_tested(tmp_path: Path) -> None:
    """The line as it stands, for two seconds, against the ports that the nodes have here."""
    with started(block("gateway cluster --no-auth").code, environment(), tmp_path) as running:
        nodes = json.loads(running.expect("ready ").removeprefix("ready "))["nodes"]
        command = block("gateway-loadtest").code.strip()
        for port, node in (("8001", nodes[0]), ("8002", nodes[1])):
            command = command.replace(f"ws://127.0.0.1:{port}", node["url"].replace("http", "ws", 1))
        shown = subprocess.run(
            f"{command} --seconds 2", shell=True, env=environment(), cwd=tmp_path, capture_output=True, text=True
        )
        # Invalid, where this machine is too busy to send in time.
        assert shown.returncode in (0, 3), shown.stdout + shown.stderr
        assert "2,000 of 2,000" in shown.stdout
        assert "<svg" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_the_demo_starts_with_make() -> None:
    """Its installation is there already: this is what `make` does the second time."""
    with started(watch(block("make demo").code), environment(), REPOSITORY, patience=300) as running:
        running.expect("Open this in a browser:")
        running.next_line()
        assert re.fullmatch(r"  http://127\.0\.0\.1:\d+", running.next_line())


@pytest.mark.slow
def test_the_demo_starts_without_make(tmp_path: Path) -> None:
    """In a fresh environment, with nothing but what the package asks for."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    env = environment(PATH=f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}")
    with started(block("pip install").code, env, REPOSITORY, patience=300) as running:
        assert len(json.loads(running.expect("ready ").removeprefix("ready "))["nodes"]) == 3


def test_the_secrets_are_those_that_the_compose_file_wants(tmp_path: Path) -> None:
    """Fresh ones each time. (`docker compose up` itself needs Docker.)"""
    first, second = (finished(str(REPOSITORY / "deploy/secrets.sh"), environment(), tmp_path) for _ in range(2))
    made = dict(line.split("=", 1) for line in first.splitlines())
    assert set(made) == set(re.findall(r"\$\{(\w+):\?", (REPOSITORY / "docker-compose.yml").read_text()))
    assert all(len(value) == 64 for value in made.values())
    assert not set(first.splitlines()) & set(second.splitlines())


@pytest.mark.slow
def test_for_real(tmp_path: Path) -> None:
    """The settings file, `check`, `explain`, `serve`, a token from Python, and a publish with the API key."""
    hmac_secret, api_key = secrets.token_hex(32), secrets.token_hex(32)
    address = f"127.0.0.1:{free_port()}"
    with valkey_server() as valkey:
        text = block("listen =").code.replace("0.0.0.0:8000", address).replace("redis://127.0.0.1:6379/0", valkey.url)
        text = text.replace(PLACEHOLDER, hmac_secret, 1).replace(PLACEHOLDER, api_key, 1)
        (tmp_path / "gateway.toml").write_text(text)
        env = environment(API_KEY=api_key, GATEWAY_INTERNAL_LISTEN="127.0.0.1:0", GATEWAY_DRAIN__WINDOW="0")
        explained = finished(block("gateway check").code, env, tmp_path)
        assert hmac_secret not in explained
        assert re.search(r"subscribe +allowed", explained)
        with started(watch(block("gateway serve").code), env, tmp_path) as node:
            node.expect("serving")
            code = block("from gateway.tokens").code.replace(SAME_SECRET, hmac_secret) + "print(token)\n"
            token = subprocess.run(
                [sys.executable, "-c", code], check=True, timeout=PATIENCE, stdout=subprocess.PIPE, text=True
            ).stdout.strip()
            subscribe = watch(f"gateway subscribe chat:lobby --url http://{address} --token {token}")
            publish = block('curl http://127.0.0.1:8000/api/publish -H "X-API-Key').code.replace(ADDRESS, address)
            with started(subscribe, env, tmp_path) as watching:
                watching.expect("subscribed to chat:lobby")
                assert json.loads(finished(publish, env, tmp_path))["result"]["offset"] == 1
                assert watching.expect("hello")


def test_the_placeholders_do_not_pass_for_secrets(tmp_path: Path) -> None:
    """Whoever forgets to replace them is told."""
    (tmp_path / "gateway.toml").write_text(block("listen =").code)
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check"], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert checked.returncode != 0
    assert "auth.hmac_secret" in checked.stderr
    assert "api.keys[0] = *** (gateway.toml): a placeholder in angle brackets" in checked.stderr
