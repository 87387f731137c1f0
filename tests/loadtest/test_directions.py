"""Which part of the tool may import which, as the docstrings of its folders say."""

from pathlib import Path

import gateway_loadtest
from tests.test_architecture import imports

PACKAGE = Path(gateway_loadtest.__file__).parent
# By part, the others that it may import.
MAY_IMPORT = {
    "text": set(),
    "planning": set(),
    "counting": {"text"},
    "wires": {"planning"},
    "probes": {"planning", "text"},
    "command_groups": set(),
    "results": {"planning", "counting", "probes", "text"},
    "running": {"text", "planning", "counting", "wires", "probes", "results"},
    "reporting": {"planning", "results", "text"},
    "peers": {"planning", "wires", "results", "running", "reporting"},
    "cli": {"command_groups", "planning", "results", "running", "reporting", "peers"},
    "__main__": {"cli"},
    "__init__": set(),
}


def files() -> dict[Path, str]:
    """Each with the part that it belongs to."""
    return {path: path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}


def test_no_part_imports_what_it_may_not() -> None:
    found: dict[str, set[str]] = {part: set() for part in MAY_IMPORT}
    for path, part in files().items():
        inner = {name.split(".")[1] for name in imports(path) if name.startswith("gateway_loadtest.")}
        found[part] |= inner & MAY_IMPORT.keys() - {part}
    assert found == MAY_IMPORT


def test_a_folder_says_what_it_may_import() -> None:
    for part, allowed in MAY_IMPORT.items():
        folder = PACKAGE / part / "__init__.py"
        if folder.exists():
            said = folder.read_text().partition("Imports ")[2].partition("\n")[0]
            assert {name for name in MAY_IMPORT if f"`{name}`" in said} == allowed, part


def test_nothing_of_the_gateway_is_needed() -> None:
    """The tool measures any backend, and must not share a mistake with the one it measures most."""
    assert [path for path in files() if any(name.partition(".")[0] == "gateway" for name in imports(path))] == []
