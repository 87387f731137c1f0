"""SIGHUP: either the settings should be read again, or the terminal was closed."""

import os


class Terminal:
    """The one that this process was started on, if any."""

    __slots__ = ("_descriptors",)

    def __init__(self) -> None:
        self._descriptors = [each for each in (0, 1, 2) if os.isatty(each)]

    @property
    def is_closed(self) -> bool:
        """Whether it is gone: system calls on its descriptors fail from then on."""
        return bool(self._descriptors) and not any(map(os.isatty, self._descriptors))
