"""Responses that do not end, as clients of the Centrifuge protocols read them: as lines, or as server-sent events."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx


class Stream:
    """The JSON objects of a response."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.lines = answer.iter_lines()

    def next(self) -> dict[str, Any]:
        """The next object that is no ping."""
        for line in self.lines:
            text = line.removeprefix("data: ")
            if text and text != "{}" and not text.startswith(":"):
                found: dict[str, Any] = json.loads(text)
                return found
        raise EOFError("the response has ended")

    def ends(self) -> bool:
        """Whether nothing but pings comes before the end."""
        try:
            self.next()
        except EOFError:
            return True
        return False


@contextmanager
def opened(http: httpx.Client, kind: str, first: Any, **headers: str) -> Iterator[Stream]:
    """A response of `/connection/KIND`, asked for with `first` as JSON (or as it is, if it is text)."""
    text = first if isinstance(first, str) else json.dumps(first)
    path = f"/connection/{kind}"
    asked = (
        http.stream("GET", path, params={"cf_connect": text}, headers=headers)
        if kind.endswith("sse")
        else http.stream("POST", path, content=text, headers=headers)
    )
    with asked as answer:
        if answer.status_code != 200:
            answer.read()
        yield Stream(answer)
