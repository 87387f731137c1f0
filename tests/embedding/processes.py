"""Applications with a gateway in them, in processes of their own."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

APP = """
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from gateway import Gateway

async def echo(socket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)

gateway = Gateway({"auth": {"anonymous": True}, "channels": {"allow_subscribe": ["anonymous"]}})
routes = [WebSocketRoute("/echo", echo), Mount("/realtime", gateway)]
app = Starlette(routes=routes, lifespan=gateway.lifespan)
bare = Starlette(routes=[Mount("/realtime", gateway)])
"""

# Far more than a test takes.
PATIENCE = 120.0


class Command:
    """A process whose output is read while it runs."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        (folder / "app.py").write_text(APP)
        env = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env={**env, **environ, "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            # So that all it starts can be ended with it.
            start_new_session=True,
        )
        self.seen = ""
        # A line that never comes.
        self._watchdog = threading.Timer(PATIENCE, self._kill)
        self._watchdog.start()

    def line(self, wanted: str) -> str:
        """The next line with this text; the output ends before one comes: what there was."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen += line
            if wanted in line:
                return line
        raise AssertionError(self.seen)

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            # (At SIGINT gunicorn waits for workers that have not heard it, unless a terminal sends it to all.)
            self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        finally:
            self._watchdog.cancel()
            self._kill()
            self.process.communicate()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
