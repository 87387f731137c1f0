"""`gateway`, with a fault planted into the hub: every so many deliveries, one is dropped. Not told to anybody.

Environment: LEAK_EVERY, and LEAK_FILE, into which the number of dropped deliveries is written.
"""

import os
from pathlib import Path
from typing import Any

from gateway.cli import main
from gateway.hub.hub import Hub

EVERY = int(os.environ["LEAK_EVERY"])
FILE = Path(os.environ["LEAK_FILE"])
MARK = b'"pub":{'

_add = Hub.add
_deliveries = 0
_dropped = 0


def _leaky_add(self: Hub[Any], destination: Any, subscriber: Any, encoder: Any, write: Any) -> None:
    def leak(block: bytes) -> None:
        global _deliveries, _dropped
        before = _deliveries
        count = block.count(MARK)
        _deliveries += count
        if before // EVERY == _deliveries // EVERY:
            write(block)
        else:
            _dropped += count
            FILE.write_text(str(_dropped))

    _add(self, destination, subscriber, encoder, leak)


Hub.add = _leaky_add  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
