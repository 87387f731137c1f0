"""`gateway`, with a fault planted into the hub: of every so many deliveries one is dropped or doubled, in silence.

Environment: LEAK_EVERY; LEAK_FILE, into which the number of these deliveries is written; LEAK_TIMES, how often they
are made (0, dropped, if it is not set).
"""

import os
from pathlib import Path
from typing import Any

from gateway.cli import main
from gateway.hub.hub import Hub

EVERY = int(os.environ["LEAK_EVERY"])
FILE = Path(os.environ["LEAK_FILE"])
TIMES = int(os.environ.get("LEAK_TIMES", "0"))
# Of a publication in the Centrifuge protocol, and in server-sent events.
MARKS = (b'"pub":{', b"\nid: ")

_add = Hub.add
_deliveries = 0
_wrong = 0


def _leaky_add(self: Hub[Any], destination: Any, subscriber: Any, encoder: Any, write: Any) -> None:
    def leak(block: bytes) -> None:
        global _deliveries, _wrong
        before = _deliveries
        count = sum(map(block.count, MARKS))
        _deliveries += count
        if before // EVERY == _deliveries // EVERY:
            write(block)
        else:
            for _ in range(TIMES):
                write(block)
            _wrong += count
            FILE.write_text(str(_wrong))

    _add(self, destination, subscriber, encoder, leak)


Hub.add = _leaky_add  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
