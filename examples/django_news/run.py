"""Makes the tables and a user, and runs the relay, and Django with the gateway in it, until Ctrl-C or SIGTERM."""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

key = secrets.token_hex(32)
address = os.environ.setdefault("GATEWAY_LISTEN", "127.0.0.1:8000")
os.environ.setdefault("DATABASE_URL", "postgresql:///news")
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "news.settings",
    "GATEWAY_URL": f"http://{address}/realtime",
    "GATEWAY_API__KEYS": key,
    "GATEWAY_API_KEY": key,
}


def prepare() -> None:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate")
    if not User.objects.filter(username="ann").exists():
        User.objects.create_user("ann", password="change me")
    connection.close()


def gateway(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "gateway", *arguments], cwd=Path(__file__).parent)


prepare()
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
processes = [gateway("serve", "--app", "news.asgi:app"), gateway("outbox")]
try:
    processes[0].wait()
except KeyboardInterrupt:
    pass
finally:
    for each in processes:
        each.terminate()
    for each in processes:
        each.wait()
