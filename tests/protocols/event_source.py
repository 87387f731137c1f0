"""A client of server-sent events, written from the specification (WHATWG HTML section 9.2.6)."""

from collections.abc import Iterable, Iterator


class EventSource:
    """What a browser does with the lines."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: int | None = None

    def read(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Name and data of each event, from lines with their ends."""
        data: list[str] = []
        name, id = "", self.last_event_id
        for ended in lines:
            line = ended.removesuffix("\n")
            if not line:
                self.last_event_id = id
                if data:
                    yield name or "message", "\n".join(data)
                data, name = [], ""
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "data":
                    data.append(value)
                case "event":
                    name = value
                case "id":
                    id = value
                case "retry":
                    self.retry = int(value)
        assert not data
