"""The locked dependencies of the images."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "deploy" / "docker"
PROJECTS = {"gateway": REPOSITORY, "loadtest": REPOSITORY / "loadtest"}


def project(name: str) -> dict[str, Any]:
    return tomllib.loads((PROJECTS[name] / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """Package -> version."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (DOCKER / "locked" / f"{name}.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", PROJECTS)
def test_every_requirement_is_locked_to_a_release_that_it_allows(name: str) -> None:
    versions = locked(name)
    for requirement in map(Requirement, project(name)["project"]["dependencies"]):
        assert requirement.specifier.contains(versions[requirement.name.lower()]), requirement


def test_the_build_is_locked_as_well() -> None:
    """Of both projects."""
    versions = locked("build")
    for name in PROJECTS:
        for requirement in map(Requirement, project(name)["build-system"]["requires"]):
            assert requirement.specifier.contains(versions[requirement.name]), requirement


@pytest.mark.parametrize("name", [*PROJECTS, "build"])
def test_every_release_has_hashes(name: str) -> None:
    """Without one, pip would refuse all of them."""
    entries = re.split(r"\n(?=[a-z0-9])", (DOCKER / "locked" / f"{name}.txt").read_text().strip())
    assert len(entries) == len(locked(name))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_the_image_takes_nothing_else() -> None:
    """Whatever pip may fetch has a hash."""
    commands = re.findall(r"pip (?:install|wheel) [^&\n]*", (DOCKER / "Dockerfile").read_text().replace("\\\n", ""))
    assert len(commands) == 4
    for command in commands:
        assert any(option in command for option in ("--require-hashes", "--no-index", "--no-deps")), command
        assert "--no-deps" not in command or "--no-build-isolation" in command
