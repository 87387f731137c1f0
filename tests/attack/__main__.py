"""`python -m tests.attack [NAME ...]`: attack a node in each of these ways, and print what the others noticed."""

import argparse
import asyncio
import os
import platform
import resource
import sys

import uvloop

from tests.attack.attackers import ATTACKERS
from tests.attack.run import measure
from tests.attack.table import HEADS, LEGEND, line
from tests.faults.processes import ProcessError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(ATTACKERS)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack (default: 10)")
    parser.add_argument("--gateway", help="path of another gateway executable")
    options = parser.parse_args()
    unknown = set(options.names) - set(ATTACKERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ATTACKERS)}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gateway = [options.gateway] if options.gateway else [sys.executable, "-m", "gateway"]
    # What else runs on the machine shows in every figure.
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"Python {platform.python_version()}, {machine}, {options.seconds:g} s each")
    print(HEADS, flush=True)
    failed = [name for name in options.names or ATTACKERS if not _attack(name, options.seconds, gateway)]
    print(f"\n{LEGEND}")
    return 1 if failed else 0


def _attack(name: str, seconds: float, gateway: list[str]) -> bool:
    """Whether it could run."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(measure(name, seconds, gateway))
    except (ProcessError, OSError) as error:
        print(f"{name:19} could not run: {type(error).__name__}: {error}", flush=True)
        return False
    print(line(result), flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
