"""`/` of a node without the demo."""

from pathlib import Path

import httpx

from gateway.demo.root_route import TEXT
from tests.api.site import running, settings_of

REPOSITORY = Path(__file__).parents[2]


def test_a_visitor_is_told_what_answers() -> None:
    """The same text on every node, whatever its settings, on the public listener only."""
    with running(settings_of(node_name="one")) as site:
        answer = httpx.get(f"http://{site.public}/", trust_env=False)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert answer.text == TEXT
        assert httpx.post(f"http://{site.public}/", trust_env=False).status_code == 405
        assert httpx.get(f"http://{site.internal}/", trust_env=False).status_code == 404


def test_the_files_that_it_names_exist() -> None:
    """And so do the documents."""
    named = [word for word in TEXT.split() if word.endswith(".md")]
    assert len(named) == 4
    assert all((REPOSITORY / name).exists() for name in named)
