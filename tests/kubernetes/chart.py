"""The chart as `helm` renders it. The binary is not a Python package; without it the tests that need it are skipped."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

CHART = Path(__file__).parents[2] / "deploy" / "kubernetes"
# What Chart.yaml demands.
OLDEST = "1.27"
NAMESPACE = "live"

Manifest = dict[str, Any]
Values = Mapping[str, Any]


def helm(*arguments: str, values: Values) -> subprocess.CompletedProcess[str]:
    """Run a command on values, which stand over those of the chart."""
    binary = shutil.which("helm")
    if binary is None:
        pytest.skip("no helm (https://helm.sh, or go install helm.sh/helm/v3/cmd/helm@latest)")
    return subprocess.run(
        [binary, *arguments, "--kube-version", OLDEST, "--namespace", NAMESPACE, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        # Its file has 100 MB, which a busy machine reads slowly the first time.
        timeout=180,
    )


def render(values: Values, *, release: str = "gateway", chart: Path = CHART) -> list[Manifest]:
    """All objects that a release consists of."""
    done = helm("template", release, str(chart), values=values)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def refusal(values: Values) -> str:
    """What is said about values that are not taken."""
    done = helm("template", "gateway", str(CHART), values=values)
    assert done.returncode != 0, "the values were taken"
    assert not done.stdout
    return done.stderr


def the(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one object of a kind, where there are more the one of that name."""
    (found,) = [
        each for each in manifests if each["kind"] == kind and (name is None or each["metadata"]["name"] == name)
    ]
    return found


def kinds(manifests: list[Manifest]) -> list[str]:
    """In alphabetical order."""
    return sorted(manifest["kind"] for manifest in manifests)


def pod_of(manifests: list[Manifest]) -> Manifest:
    """The pod spec of the Deployment."""
    pod: Manifest = the(manifests, "Deployment")["spec"]["template"]["spec"]
    return pod


def container_of(manifests: list[Manifest]) -> Manifest:
    (container,) = pod_of(manifests)["containers"]
    assert isinstance(container, dict)
    return container
