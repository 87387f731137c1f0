"""One model of a payload, as msgspec and as pydantic have it, for the benchmark."""

from msgspec import Struct
from pydantic import BaseModel


class Author(Struct):
    """Who wrote it."""

    id: int
    name: str


class Line(Struct):
    """A line of a chat."""

    text: str
    author: Author
    tags: list[str]


class PydanticAuthor(BaseModel):
    """Who wrote it."""

    id: int
    name: str


class PydanticLine(BaseModel):
    """A line of a chat."""

    text: str
    author: PydanticAuthor
    tags: list[str]


# A publication that fits.
LINE = b'{"text":"%b","author":{"id":42,"name":"ann"},"tags":["one","two"]}' % (b"x" * 50)
