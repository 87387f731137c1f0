"""A node and two thermometers, and all that they say, until Ctrl-C or SIGTERM."""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from gateway.tokens import subscription_token

HERE = Path(__file__).parent
NAMES = ("kitchen", "cellar")
secret = os.environ.setdefault("GATEWAY_AUTH__HMAC_SECRET", secrets.token_hex(32))
listen = os.environ.setdefault("GATEWAY_LISTEN", "127.0.0.1:8000")
os.environ |= {
    "GATEWAY_URL": f"http://{listen}",
    "GATEWAY_INTERNAL_LISTEN": "",
    # Who has a token for a channel may subscribe to it, and then publish.
    "GATEWAY_NAMESPACES__device__ALLOW_PUBLISH": "subscriber",
}


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, *arguments], cwd=HERE)


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
processes = [start("-m", "gateway", "serve")]
try:
    for name in NAMES:
        token = subscription_token(secret, name, f"device:{name}", expires_in=86_400)
        processes.append(start("thermometer.py", name, token, f"ws://{listen}"))
    watch = [sys.executable, "-m", "gateway", "subscribe", *(f"device:{name}" for name in NAMES), "--user", "you"]
    # The node may need a moment to start.
    while subprocess.call(watch, cwd=HERE):
        time.sleep(0.5)
except KeyboardInterrupt:
    pass
finally:
    for each in processes:
        each.terminate()
    for each in processes:
        each.wait()
