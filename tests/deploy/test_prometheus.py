"""Prometheus itself, with the configuration, the rules and the dashboard's questions, at real nodes."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import Cluster, running_cluster
from tests.deploy.test_observability import alerts, named, panels
from tests.servers import free_port

CONFIG = Path(__file__).parents[2] / "deploy" / "prometheus"
# For the first scrapes and the first look at the rules.
PATIENCE = 60.0

Ask = Callable[..., Any]


@contextmanager
def prometheus(folder: Path, cluster: Cluster) -> Iterator[Ask]:
    """The configuration as it is, but for the addresses and the pace; yields what asks its API."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus (Debian: prometheus)")
    targets = [urllib.parse.urlsplit(node.internal_url).netloc for node in cluster.nodes]
    text = re.sub(r"targets: \[.*\]", f"targets: {json.dumps(targets)}", (CONFIG / "prometheus.yml").read_text())
    (folder / "prometheus.yml").write_text(text.replace("_interval: 5s", "_interval: 1s"))
    shutil.copy(CONFIG / "alerts.yml", folder)
    port = free_port()
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [program, *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
    )

    def ask(path: str, **fields: str) -> Any:
        query = urllib.parse.urlencode(fields)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    try:
        yield ask
    finally:
        process.kill()
        process.wait()
        log.close()


def soon(condition: Callable[[], bool]) -> None:
    """Until it holds; another process decides when."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return
        except OSError:
            # It does not listen yet.
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_prometheus(tmp_path: Path) -> None:
    """It scrapes each node, evaluates each rule, none fires, and knows every metric that somebody asks for."""
    with running_cluster(nodes=2) as cluster, prometheus(tmp_path, cluster) as ask:
        soon(lambda: [each["health"] for each in ask("targets")["activeTargets"]] == ["up", "up"])
        expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
        expressions += [rule["expr"] for rule in alerts()]
        wanted = {name for expression in expressions for name in named(expression)}
        # A counter with a label has no series before it counts, but a type.
        typed = {re.sub("_(bucket|sum|count)$", "", name) for name in wanted}
        soon(lambda: {*ask("metadata")} >= typed)
        for expression in expressions:
            ask("query", query=expression.replace("$__rate_interval", "1m"))

        def rules() -> list[Any]:
            return [rule for group in ask("rules")["groups"] for rule in group["rules"]]

        soon(lambda: {rule["health"] for rule in rules()} == {"ok"})
        assert {rule["state"] for rule in rules()} == {"inactive"}
        assert {rule["name"] for rule in rules()} == {rule["alert"] for rule in alerts()}
