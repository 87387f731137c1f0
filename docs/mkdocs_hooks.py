"""Pages of the site that are files elsewhere in the repository, so that links to them work there and on GitHub alike.

The README is the first page. A file outside of docs/ that a page links to becomes a page of its own.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).parents[1]
# By the path in the repository: where it is on the site.
PLACES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "deploy/kubernetes/README.md": "kubernetes.md",
}
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)")
LANGUAGES = {".py": "python", ".cfg": "haproxy", ".yaml": "yaml", "": "text"}


def place(path: str) -> str:
    """Where a file of the repository is on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PLACES.get(path, f"source/{path.removesuffix('.md')}.md")


def linked(text: str, path: str) -> str:
    """The text of a file of the repository, with its links as the site needs them."""

    def moved(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))
        return f"]({posixpath.relpath(place(target), posixpath.dirname(place(path)) or '.')}{found[2] or ''})"

    return LINK.sub(moved, text)


def outside(path: str, seen: set[str]) -> Iterator[str]:
    """The files outside of docs/ to which links lead from a page, also over others of them."""
    for found in LINK.finditer((REPOSITORY / path).read_text()):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))
        if not target.startswith("docs/") and target not in seen:
            seen.add(target)
            yield target
            if target.endswith(".md"):
                yield from outside(target, seen)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from elsewhere."""
    seen = {*PLACES}
    found = [*PLACES, *(each for page in PLACES for each in outside(page, seen))]
    for file in files.documentation_pages():
        found += outside(f"docs/{file.src_uri}", seen)
    for path in found:
        text = (REPOSITORY / path).read_text()
        if not path.endswith(".md"):
            language = LANGUAGES.get(posixpath.splitext(path)[1], "text")
            text = f"# `{path}`\n\n````{language}\n{text}````\n"
        files.append(File.generated(config, place(path), content=linked(text, path) if path.endswith(".md") else text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """The pages of docs/ themselves."""
    return markdown if page.file.generated_by else linked(markdown, f"docs/{page.file.src_uri}")
