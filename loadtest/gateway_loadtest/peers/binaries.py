"""Servers that are programs of the machine: the C send loop, Nchan and NATS."""

import subprocess
from pathlib import Path

from gateway_loadtest.peers.sandbox import PROGRAMS, RAW_PATH, MissingError, RunningPeer, Sandbox, find, free_port, make

MODULE = "ngx_nchan_module.so"
MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
# Without what only a machine's own nginx needs. One worker: the others have one process a node, too.
NGINX = """
load_module {module};
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 65536; }}
worker_rlimit_nofile 65536;
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/sub/(.+)$ {{
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
      nchan_message_buffer_length 0;
    }}
    location ~ ^/pub/(.+)$ {{
      nchan_publisher websocket;
      nchan_channel_id $1;
      nchan_message_buffer_length 0;
    }}
  }}
}}
"""
NATS = """
listen: 127.0.0.1:{clients}
websocket {{ listen: "127.0.0.1:{port}", no_tls: true, compression: false }}
max_connections: 65536
"""


def send_loop(sandbox: Sandbox) -> RunningPeer:
    """The limit: `send()` for every subscriber, and nothing else."""
    compiler = find("cc", "apt-get install gcc libc6-dev")
    program = sandbox.folder / "send_loop"
    make([compiler, "-O2", "-o", program, PROGRAMS / "fanout_loop.c"], sandbox.folder)
    port = free_port()
    sandbox.start([program, str(port)], port)
    return RunningPeer("raw", (f"ws://127.0.0.1:{port}{RAW_PATH}",), "C, cc -O2")


def nchan(sandbox: Sandbox) -> RunningPeer:
    """The module of nginx, without message buffers."""
    remedy = "apt-get install nginx libnginx-mod-nchan"
    nginx = find("nginx", remedy)
    module = find(MODULE, remedy, *(Path(folder) / MODULE for folder in MODULE_FOLDERS))
    port = free_port()
    settings = sandbox.folder / "nginx.conf"
    settings.write_text(NGINX.format(module=module, folder=sandbox.folder, port=port))
    sandbox.start([nginx, "-e", "stderr", "-p", sandbox.folder, "-c", settings], port)
    return RunningPeer("raw", (f"ws://127.0.0.1:{port}{RAW_PATH}",), said([nginx, "-v"]))


def nats(sandbox: Sandbox) -> RunningPeer:
    """The server of NATS with its WebSocket listener."""
    server = find("nats-server", "apt-get install nats-server")
    port = free_port()
    settings = sandbox.folder / "nats.conf"
    settings.write_text(NATS.format(clients=free_port(), port=port))
    sandbox.start([server, "-c", settings], port)
    return RunningPeer("nats", (f"ws://127.0.0.1:{port}",), said([server, "--version"]))


def said(command: list[str | Path]) -> str:
    """The first line of what a command says of its version, on either output."""
    try:
        result = subprocess.run(command, capture_output=True, timeout=20)  # noqa: S603 - the peers' own commands
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{command[0]} cannot be started: {error}") from None
    lines = (result.stdout + result.stderr).decode(errors="replace").splitlines()
    return lines[0].strip() if lines else ""
