"""The blocks of code in docs/, as readers get them."""

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```$', re.M | re.S)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    # The name of the file that a reader makes of it; empty for a part of one, or a command.
    title: str
    code: str


def blocks(page: str) -> list[Block]:
    """Those of `docs/PAGE.md`, in their order."""
    found = _BLOCK.finditer((DOCS / f"{page}.md").read_text())
    return [Block(each[2], each[3] or "", re.sub(f"^{each[1]}", "", each[4], flags=re.M)) for each in found]


def files(page: str) -> dict[str, str]:
    """The files of a page by their names; a second block of the same name is added at the end."""
    made: dict[str, str] = {}
    for block in blocks(page):
        if block.title:
            made[block.title] = f"{made[block.title]}\n\n{block.code}" if block.title in made else block.code
    return made


def write(page: str, folder: Path) -> None:
    """Make the files."""
    for name, text in files(page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
