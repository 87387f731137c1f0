"""What a pod is given as settings is what a node reads."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config import checks, sources
from gateway.config.settings import DrainSettings, ServerSettings
from tests.kubernetes.chart import container_of, pod_of, render
from tests.kubernetes.pod import NAME, environment, service_links, settings_file
from tests.kubernetes.variants import API_KEYS, REDIS_URL, SECRET, VARIANTS

pytestmark = pytest.mark.slow


def load(values: dict[str, Any], folder: Path, **environ: str) -> ServerSettings:
    """As a node of the release reads them."""
    manifests = render(values)
    return sources.read(settings_file(manifests, folder), {}, {**environment(manifests), **environ}).settings


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variable_and_every_line_of_the_file_is_a_setting(variant: str, tmp_path: Path) -> None:
    """A node starts with what the chart gives it: nothing unknown, nothing refused."""
    load(VARIANTS[variant], tmp_path)


def test_defaults_reach_the_node(tmp_path: Path) -> None:
    settings = load({}, tmp_path)
    assert settings.listen == ("*:8000",)
    assert settings.internal_listen == ("*:9000",)
    assert settings.node_name == "gateway" + NAME
    assert settings.redis.url is not None
    assert settings.redis.url.get_secret_value() == REDIS_URL
    assert settings.auth.hmac_secret is not None
    assert settings.auth.hmac_secret.get_secret_value() == SECRET
    assert [key.get_secret_value() for key in settings.api.keys] == API_KEYS.split(",")
    assert (settings.drain.delay, settings.drain.window) == (5, 20)


def test_defaults_are_closed_and_only_the_origins_are_left_to_name(tmp_path: Path) -> None:
    """What `gateway check` says."""
    settings = load({}, tmp_path)
    assert checks.warnings(settings) == [
        "origins.allowed is empty: no page in a browser may connect, only other clients"
    ]
    assert not settings.admits_anonymous
    assert not settings.api.insecure


def test_everything_that_is_set_reaches_the_node_as_it_is(tmp_path: Path) -> None:
    """Helm makes floating-point numbers of all numbers, and large ones get an exponent."""
    wanted = VARIANTS["everything set"]["settings"]
    settings = load(VARIANTS["everything set"], tmp_path).model_dump(mode="json")

    def compare(given: dict[str, Any], found: dict[str, Any]) -> None:
        for name, value in given.items():
            if isinstance(value, dict):
                compare(value, found[name])
            else:
                assert found[name] == value, name

    compare(wanted, settings)


def test_the_previous_key_is_accepted_while_it_is_named(tmp_path: Path) -> None:
    previous = load(VARIANTS["rotating"], tmp_path).auth.hmac_secret_previous
    assert previous is not None
    assert previous.get_secret_value() == SECRET[::-1]
    assert load({}, tmp_path).auth.hmac_secret_previous is None


def test_a_node_alone_has_no_redis(tmp_path: Path) -> None:
    assert load(VARIANTS["alone"], tmp_path).redis.url is None


def test_a_service_called_gateway_changes_no_setting(tmp_path: Path) -> None:
    """Kubernetes is asked not to inject GATEWAY_PORT=tcp://...; and a node that gets it all the same passes over it."""
    manifests = render({})
    assert pod_of(manifests)["enableServiceLinks"] is False
    links = service_links(manifests)
    assert links["GATEWAY_PORT"] == "tcp://10.0.0.1:80"
    assert load({}, tmp_path, **links) == load({}, tmp_path)


def test_longest_release_name_gives_a_name_that_a_node_takes(tmp_path: Path) -> None:
    """Helm takes 53 characters, node_name 64, Services 63."""
    manifests = render({}, release="r" * 53)
    settings = sources.read(settings_file(manifests, tmp_path), {}, environment(manifests)).settings
    assert len(settings.node_name) <= 63
    assert all(len(manifest["metadata"]["name"]) <= 63 for manifest in manifests)


def test_secrets_are_nowhere_but_in_the_secret() -> None:
    manifests = render(VARIANTS["trial"])
    rest = str([manifest for manifest in manifests if manifest["kind"] != "Secret"])
    assert not any(secret in rest for secret in (SECRET, REDIS_URL, *API_KEYS.split(",")))


@pytest.mark.parametrize(
    ("drain", "least"),
    [
        ({}, 25),
        ({"delay": 0, "window": 0}, 0),
        ({"delay": 7.5, "window": 300.1}, 308),
        # Taken out of the chart's values: those of the gateway count.
        ({"delay": None, "window": None}, DrainSettings().delay + DrainSettings().window),
    ],
)
def test_grace_period_is_longer_than_the_drain(drain: dict[str, float | None], least: float, tmp_path: Path) -> None:
    values = {"settings": {"drain": drain}}
    settings = load(values, tmp_path)
    grace = pod_of(render(values))["terminationGracePeriodSeconds"]
    assert grace == least + 10
    assert grace >= settings.drain.delay + settings.drain.window + 5


def test_grace_period_that_is_long_enough_is_taken_as_it_is() -> None:
    assert pod_of(render({"terminationGracePeriodSeconds": 30}))["terminationGracePeriodSeconds"] == 30


def test_the_end_is_left_to_sigterm() -> None:
    """A hook would need Redis, a key, and a part of the grace period, for what the node does by itself."""
    container = container_of(render({}))
    assert "lifecycle" not in container
    assert container["args"] == ["serve"]
    # The image's entry point gets the signal itself, without a shell in between.
    assert "command" not in container
