"""`python -m tests.conformance PYTHON2 FOLDER`: the Autobahn suite against our server. `make conformance` prepares it.

Both ways in which a WebSocket is served: a connection that was detached, as all clients of the gateway have, and an
ASGI application that receives and sends.
"""

import sys
from pathlib import Path

from gateway.config.settings import CompressionSettings
from tests.conformance import suite
from tests.conformance.report import Report
from tests.transports.conftest import fast_site, settings_of
from tests.transports.websocket.echo import echo_app

# 9.1.6 sends 16 MiB, 9.3.1 sends 4 MiB in fragments of 64 bytes.
SETTINGS = settings_of(message_size=16 * 1024 * 1024, fragments=70_000).model_copy(
    update={"compression": CompressionSettings(enabled=True, min_size=1)}
)


def main(python2: str, folder: Path) -> int:
    with fast_site(SETTINGS, app=echo_app(SETTINGS)) as site:
        servers = {"connection": f"ws://{site.url}/", "application": f"ws://{site.url}/receive"}
        try:
            index = suite.run(python2, folder, servers)
        except suite.SuiteError as error:
            print(error, file=sys.stderr)
            return 1
    report = Report(index, servers=tuple(servers), cases=suite.CASES)
    print(*report.lines(), f"each case: {folder / 'index.html'}", sep="\n")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
