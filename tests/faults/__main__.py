"""`python -m tests.faults --minutes M --seed S`: the fault suite, long. Exit code 1 when anything was wrong."""

import argparse
import asyncio
import random
import signal
import sys
import time
from pathlib import Path

import uvloop

from tests.faults.faults import DURABLE, KINDS
from tests.faults.run import Run, folder
from tests.faults.site import LONG, SHORT

INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="at least; every kind happens once")
    parser.add_argument("--seed", type=int, default=None, help="decides everything that is chosen")
    parser.add_argument("--only", action="append", choices=list(KINDS), help="this kind; may be repeated")
    parser.add_argument("--short", action="store_true", help="the load and times of the short profile")
    parser.add_argument("--durable", action="store_true", help="a Valkey that loses nothing; only kinds that fit it")
    parser.add_argument("--keep", type=Path, help="folder to keep logs in")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    run = Run(seed, SHORT if options.short else LONG, _say, durable=options.durable)
    names = options.only or list(DURABLE if options.durable else KINDS)
    with folder() as place:
        if options.keep is not None:
            place = options.keep
            place.mkdir(parents=True)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_run(run, names, options.minutes * 60, place))
        except asyncio.CancelledError:
            return INTERRUPTED
    print(run.table())
    for note, count in sorted(run.notes.items()):
        print(f"  {note}: {count:,}")
    if run.failures:
        print(f"\nFAILED with seed {seed}:", *run.failures, sep="\n")
        return 1
    print("\nNothing was lost, duplicated or misordered, and every gap was announced.")
    return 0


async def _run(run: Run, names: list[str], seconds: float, place: Path) -> None:
    task = asyncio.current_task()
    assert task is not None
    # Ctrl-C and SIGTERM end the processes that were started, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await run.run(names, seconds, place)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
