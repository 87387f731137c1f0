"""Where a run took place."""

import os
import platform
from collections.abc import Iterable

import psutil

from gateway_loadtest.results.result import Environment


def environment_of_this_machine(servers: Iterable[str], redis: Iterable[str]) -> Environment:
    """`servers`, `redis`: the versions that they told."""
    return Environment(
        machine=_processor(),
        cores=os.cpu_count() or 0,
        memory=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        servers=sorted(set(servers) - {""}),
        redis=sorted(set(redis) - {""}),
    )


def _processor() -> str:
    """Its model where the system tells it (Linux), and the architecture."""
    try:
        with open("/proc/cpuinfo") as lines:
            model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        model = ""
    return f"{model}, {platform.machine()}" if model else platform.machine()
