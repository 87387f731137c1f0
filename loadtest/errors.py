"""What can go wrong before a run has begun."""


class UsageError(Exception):
    """The options, or a scenario file, make no run."""


class PreflightError(Exception):
    """This machine does not allow so many connections; the text says what would help."""
