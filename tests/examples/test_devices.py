"""examples/devices: what two devices say over plain WebSockets reaches a subscriber, and an order reaches a device."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

from gateway.tokens import subscription_token
from tests.servers import free_port

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "devices"
SECRET = "the secret of this test has 32 bytes"
PATIENCE = 60


@pytest.mark.slow
def test_devices_are_heard_and_hear() -> None:
    address = f"127.0.0.1:{free_port()}"
    env = {**os.environ, "GATEWAY_LISTEN": address, "GATEWAY_AUTH__HMAC_SECRET": SECRET}
    with subprocess.Popen([sys.executable, "run.py"], cwd=FOLDER, env=env, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            devices: set[str] = set()
            while devices != {"kitchen", "cellar"}:
                # A text of a plain WebSocket is a JSON string for others.
                text = json.loads(run.stdout.readline())["data"]
                devices.add(json.loads(text)["device"])
            token = subscription_token(SECRET, "owner", "device:kitchen", expires_in=60)
            headers = {"Authorization": f"Bearer {token}"}
            with connect(f"ws://{address}/ws/device:kitchen", additional_headers=headers, proxy=None) as socket:
                socket.send('{"every": 0.01}')
                readings = 0
                while readings < 20:
                    readings += "celsius" in json.loads(socket.recv(timeout=PATIENCE))
        finally:
            run.send_signal(signal.SIGTERM)
            assert run.wait(PATIENCE) == 0
