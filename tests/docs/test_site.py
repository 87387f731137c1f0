"""The site of docs/: every link leads somewhere, and it works without the internet."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        timeout=120,
        check=True,
    )
    return folder


@pytest.mark.slow
def test_nothing_comes_from_other_servers(site: Path) -> None:
    """No script, style, picture or font; mermaid, which the theme would fetch, is not used."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert re.findall(r"<(?:script|img|iframe|source)[^>]+src=\"?(?:https?:)?//", text) == [], page
        assert re.findall(r"<link[^>]+rel=\"?(?!canonical)[^>]+href=\"?(?:https?:)?//", text) == [], page
        assert 'class="mermaid"' not in text
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text()) == [], style


@pytest.mark.slow
def test_the_first_page_is_the_readme_and_what_pages_link_to_is_there(site: Path) -> None:
    """Also files elsewhere in the repository."""
    assert "See it work" in (site / "index.html").read_text()
    assert "SessionMiddleware" in (site / "source/examples/fastapi_chat/app.py/index.html").read_text()
    assert "news/views.py" in (site / "source/examples/django_news/index.html").read_text()
