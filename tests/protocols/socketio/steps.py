"""How much Python runs: counted, not timed."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import gateway.protocols.socketio

FOLDER = str(Path(gateway.protocols.socketio.__file__).parent)


def steps_of(call: Callable[[], object]) -> int:
    """Lines of the codecs that run in a call, whether or not it succeeds in the end."""
    steps = 0

    def counting(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return counting if frame.f_code.co_filename.startswith(FOLDER) else None

    before = sys.gettrace()
    sys.settrace(counting)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps
