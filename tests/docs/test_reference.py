"""The references in docs/ are those of this code."""

from collections.abc import Callable

import pytest

from gateway.hooks import __all__ as public
from tests.docs.pages import DOCS
from tests.docs.reference import PAGES, hooks_page


@pytest.mark.parametrize(("name", "page"), PAGES.items(), ids=PAGES)
def test_they_are_fresh(name: str, page: Callable[[], str]) -> None:
    """`python -m tests.docs.reference` writes them."""
    assert (DOCS / name).read_text() == page()


def test_everything_public_is_there() -> None:
    """Every name of gateway.hooks, and no field without a word on what it means."""
    page = hooks_page()
    assert [name for name in public if f"# {name}\n" not in page] == []
    assert "|  |" not in page
