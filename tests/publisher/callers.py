"""Either publisher, called in the same way by the tests."""

from typing import Any

from gateway.publisher import AsyncPublisher, Publisher
from tests import callers


class Caller(callers.Caller):
    def __init__(self, kind: str, url: str | None = None, **options: Any) -> None:
        runner = callers.runner_of(kind)
        super().__init__((Publisher if runner is None else AsyncPublisher)(url, **options), runner)
