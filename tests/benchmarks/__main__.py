"""`python -m tests.benchmarks [NAME ...]`: run the measurements and print a table."""

import asyncio
import platform
import resource
import sys
from collections.abc import Callable, Coroutine

from tests.benchmarks import compression, encodings, measures, publishing, streams, transports
from tests.benchmarks.measures import Row

MEASURES: dict[str, Callable[[], Coroutine[object, object, list[Row]]]] = {
    "delivery": measures.delivery,
    "transports": transports.transports,
    "encodings": encodings.encodings,
    "compression": compression.compression,
    "throughput": measures.throughput,
    "websocket_publish": measures.websocket_publish,
    "hooks": measures.hooks,
    "payloads": measures.payloads,
    "http_publish": measures.http_publish,
    "connections": measures.connections,
    "loop_lag": measures.loop_lag,
    "recovery": streams.recovery,
    "presence": streams.presence,
    "latest": streams.latest,
    "publisher": publishing.publisher,
    "stopped_redis": streams.stopped_redis,
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(MEASURES)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}", file=sys.stderr)
        return 2
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}")
    for name in names or MEASURES:
        for row in asyncio.run(MEASURES[name]()):
            print(f"{row.what:<75} {row.figure:>24}  {row.budget}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
