"""The code in docs/publisher.md works as it stands, and so do the rights in docs/operations.md."""

import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.api.clients import native, settled
from tests.api.site import Site
from tests.client.test_docs import serving
from tests.publisher.callers import Caller
from tests.servers import ValkeyServer

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "publisher.md").read_text()
FIRST, APPLICATION, DJANGO, CELERY = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def adapted(code: str, server: ValkeyServer) -> str:
    """The code, with the server of the test."""
    assert "redis://127.0.0.1:6379/0" in code
    return code.replace("redis://127.0.0.1:6379/0", server.url)


def run(code: str, server: ValkeyServer) -> dict[str, Any]:
    """The names that it defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(adapted(code, server), names)
    return names


def test_the_first_example(site: Site, server: ValkeyServer) -> None:
    with native(site, "42") as client, settled(site, "chat:lobby") as lobby:
        names = run(FIRST, server)
        assert [lobby.recv(10), lobby.recv(10)] == ['{"text":"hello"}', '{"text":"hello, all"}']
        assert client.push() == {"channel": "#42", "pub": {"data": {"text": "hello, you"}}}
    names["gateway"].close()


def test_the_application(site: Site, server: ValkeyServer) -> None:
    """Made without a loop, closed with its lifespan; twice, as in tests."""
    names = run(APPLICATION, server)
    with settled(site, "chat:orders") as client:
        for order in (7, 8):
            with serving(names["app"]) as url:
                assert httpx.post(f"{url}/orders/{order}/ship", timeout=60, trust_env=False).status_code == 200
            assert json.loads(client.recv(10)) == {"order": order, "state": "shipped"}


# A database with transactions; the view rolls the first one back.
VIEW = """
import logging

import django
from django.conf import settings

logging.basicConfig()
database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(LOGGING_CONFIG=None, DATABASES={"default": database})
django.setup()

from django.db import connection, transaction
from realtime import gateway, publish_on_commit

for number, fails in ((1, True), (2, False)):
    try:
        with transaction.atomic():
            connection.cursor().execute("CREATE TABLE t (a)")
            publish_on_commit("chat:orders", {"order": number})
            # What cannot be published fails by itself.
            publish_on_commit("nowhere:x", 1)
            publish_on_commit("chat:orders", {"order": number, "again": True})
            if fails:
                raise LookupError
    except LookupError:
        pass
gateway.close()
"""


@pytest.mark.slow
def test_django(site: Site, server: ValkeyServer, tmp_path: Path) -> None:
    """With a real database: what is rolled back is not published."""
    pytest.importorskip("django")
    (tmp_path / "realtime.py").write_text(adapted(DJANGO, server))
    with settled(site, "chat:orders") as client:
        done = subprocess.run([sys.executable, "-c", VIEW], cwd=tmp_path, timeout=60, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "unknown channel" in done.stderr
        assert json.loads(client.recv(10)) == {"order": 2}
        assert json.loads(client.recv(10)) == {"order": 2, "again": True}


def test_celery(site: Site, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is carried out twice publishes once. (A worker is a fork, as in test_processes.)"""

    def shared_task(**options: Any) -> Callable[[Any], Any]:
        assert options == {"autoretry_for": (names["Unavailable"],), "retry_backoff": True}
        return lambda function: function

    celery = types.ModuleType("celery")
    celery.shared_task = shared_task  # type: ignore[attr-defined]  # all that the example uses
    monkeypatch.setitem(sys.modules, "celery", celery)
    names: dict[str, Any] = {}
    exec(adapted(CELERY, server), names)
    with settled(site, "chat:orders") as client:
        for order in (1, 1, 2):
            names["announce"](order, "shipped")
        assert [json.loads(client.recv(10))["order"] for _ in range(2)] == [1, 2]
    names["gateway"].close()


def test_the_rights_of_a_publisher_are_enough_and_no_more(site: Site, server: ValkeyServer, kind: str) -> None:
    """Whatever the kind of channel; control messages and leases stay with the nodes."""
    (block,) = re.findall(r"```\n\s+(~gw:\{\*\}.*?)```", (DOCS / "operations.md").read_text(), re.S)
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "publisher", "reset", "on", ">geheim", *block.split())
    url = f"redis://publisher:geheim@127.0.0.1:{server.port}"
    with Caller(kind, url, timeout=60) as gateway:
        assert gateway.publish(f"kept:rights-{kind}", 1, version=3).offset == 1
        gateway.publish("chat:x", 1)
        gateway.publish("chat:x", 1, idempotency_key="")
        gateway.publish(f"last:rights-{kind}", 1, tags={"key": "a"})
        gateway.publish(f"last:rights-{kind}", None, tags={"key": "a", "removed": "true"})
    with redis.Redis.from_url(url) as limited:
        assert limited.hget("gw:{home}:settings:0::", "digest")
        for command in (
            ("HSET", "gw:{home}:settings:0::", "digest", "x"),
            ("SMEMBERS", "gw:{home}:leases:0::"),
            ("HGETALL", "gw:{home}:revoked:0::"),
            ("PUBLISH", "gw:{home}:control:0::", "x"),
            ("CONFIG", "GET", "*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                limited.execute_command(*command)
