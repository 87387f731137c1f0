"""The objects are right by the schemas of Kubernetes, belong together, and do what an operator counts on."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.api.health import health_routes
from gateway.metrics import Metrics
from gateway.node.node import Node
from tests.kubernetes.chart import CHART, OLDEST, Manifest, container_of, helm, kinds, pod_of, render, the
from tests.kubernetes.variants import VARIANTS

pytestmark = pytest.mark.slow

ALWAYS = ["ConfigMap", "Deployment", "Service", "Service"]
NEWEST = "1.37"
# No object of Kubernetes itself: the Prometheus operator defines it.
FOREIGN = {"ServiceMonitor"}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_are_right_by_the_schemas_of_kubernetes(variant: str, version: str) -> None:
    """Strictly: a field that is not there in that version is an error."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for manifest in render(VARIANTS[variant]):
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_lint_has_nothing_to_say(variant: str) -> None:
    done = helm("lint", "--strict", "--quiet", str(CHART), values=VARIANTS[variant])
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("WARNING|ERROR", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("variant", "more"),
    [
        ("default", ["NetworkPolicy", "PodDisruptionBudget"]),
        ("trial", ["NetworkPolicy", "PodDisruptionBudget", "Secret"]),
        ("ingress", ["Ingress", "NetworkPolicy", "PodDisruptionBudget"]),
        ("scaled", ["HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor"]),
        ("placed", []),
    ],
)
def test_objects_are_those_that_were_asked_for(variant: str, more: list[str]) -> None:
    assert kinds(render(VARIANTS[variant])) == sorted(ALWAYS + more)


def selectors(manifests: list[Manifest]) -> Iterator[dict[str, str]]:
    """How the objects of the release find its pods."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            yield spec["selector"]
        elif manifest["kind"] in ("Deployment", "PodDisruptionBudget"):
            yield spec["selector"]["matchLabels"]
        elif manifest["kind"] == "NetworkPolicy":
            yield spec["podSelector"]["matchLabels"]
    for constraint in pod_of(manifests)["topologySpreadConstraints"]:
        yield constraint["labelSelector"]["matchLabels"]


def test_everything_finds_the_pods_of_its_release_and_of_no_other() -> None:
    values = VARIANTS["scaled"]
    labels = the(render(values, release="live"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    found = list(selectors(render(values, release="live")))
    assert len(found) == 7
    assert all(selector.items() <= labels.items() for selector in found)
    others = selectors(render(values, release="staging"))
    assert not any(selector.items() <= labels.items() for selector in others)


def test_release_called_gateway_has_a_service_called_gateway() -> None:
    assert the(render({}), "Service", "gateway")
    assert the(render({}, release="live"), "Service", "live-gateway")
    assert the(render({"nameOverride": "bus"}, release="live"), "Service", "live-bus")


def test_services_lead_to_the_listeners() -> None:
    """The public one is never the way to the internal listener, which has /metrics without a key."""
    manifests = render({})
    ports = {port["name"]: port["containerPort"] for port in container_of(manifests)["ports"]}
    public = the(manifests, "Service", "gateway")["spec"]
    internal = the(manifests, "Service", "gateway-internal")["spec"]
    assert [ports[port["targetPort"]] for port in public["ports"]] == [8000]
    assert [ports[port["targetPort"]] for port in internal["ports"]] == [9000]
    assert internal["clusterIP"] == "None"


def test_probes_ask_for_what_the_node_serves() -> None:
    """Liveness never asks whether Redis is there, and none of them stands in line with clients."""
    container = container_of(render({}))
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"internal"}
    paths = [probes[name]["path"] for name in ("startup", "liveness", "readiness")]
    assert paths == ["/health/live", "/health/live", "/health/ready"]
    served = {getattr(route, "path", "") for route in health_routes(Node.__new__(Node), public=True)}
    assert set(paths) == served


def test_pod_is_confined() -> None:
    manifests = render({})
    pod, container = pod_of(manifests), container_of(manifests)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() == {"memory"}


def test_rollout_goes_node_by_node_and_never_below_the_number_asked_for() -> None:
    deployment = the(render({"replicas": 5}), "Deployment")["spec"]
    assert deployment["replicas"] == 5
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_autoscaler_goes_by_a_metric_of_the_gateway_and_down_one_node_at_a_time() -> None:
    values = {"autoscaling": {"enabled": True, "connections": 250_000}}
    manifests = render(values)
    assert "replicas" not in the(manifests, "Deployment")["spec"], "every upgrade would undo the scaling"
    spec = the(manifests, "HorizontalPodAutoscaler")["spec"]
    connections, cpu = spec["metrics"]
    name = connections["pods"]["metric"]["name"]
    assert connections["pods"]["target"] == {"type": "AverageValue", "averageValue": "250000"}
    families = text_string_to_metric_families(Metrics().render().decode())
    assert [family.type for family in families if family.name == name] == ["gauge"]
    assert cpu["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    down = spec["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]
    assert down["stabilizationWindowSeconds"] == 600
    # A node has drained before the next one goes.
    assert down["policies"][0]["periodSeconds"] > pod_of(manifests)["terminationGracePeriodSeconds"]


def test_connections_alone_scale_when_cpu_is_not_wanted() -> None:
    spec = the(render(VARIANTS["scaled"]), "HorizontalPodAutoscaler")["spec"]
    assert [metric["type"] for metric in spec["metrics"]] == ["Pods"]


def test_monitor_selects_the_internal_service_alone() -> None:
    """It looks for labels of Services: with both, each node would be counted twice or at a closed port."""
    manifests = render(VARIANTS["scaled"])
    monitor = the(manifests, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [each for each in manifests if each["kind"] == "Service"]
    selected = [each for each in services if wanted <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in selected] == ["gateway-internal"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in [port["name"] for port in selected[0]["spec"]["ports"]]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_network_policy_keeps_the_internal_listener_to_the_nodes() -> None:
    """Unless others are named, or there is none."""
    _, internal = the(render({}), "NetworkPolicy")["spec"]["ingress"]
    assert [list(peer) for peer in internal["from"]] == [["podSelector"]]
    assert not [each for each in render(VARIANTS["placed"]) if each["kind"] == "NetworkPolicy"]


def test_the_api_is_on_the_internal_listener_alone() -> None:
    """An ingress leads everything to the public one."""
    assert tomllib.loads(the(render({}), "ConfigMap")["data"]["gateway.toml"])["api"]["public"] is False


def test_network_policy_keeps_the_internal_listener_to_those_named() -> None:
    public, internal = the(render(VARIANTS["scaled"]), "NetworkPolicy")["spec"]["ingress"]
    assert public == {"ports": [{"port": "http"}]}
    assert internal["ports"] == [{"port": "internal"}]
    assert [list(peer) for peer in internal["from"]] == [["podSelector"], ["namespaceSelector"]]


def annotations(values: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = the(render(values), "Deployment")["spec"]["template"]["metadata"].get("annotations", {})
    return found


def test_changed_settings_restart_the_nodes_unless_they_are_to_be_reloaded() -> None:
    changed = {"settings": {"limits": {"channels": 5}}}
    assert annotations(changed) != annotations({})
    assert annotations({**changed, "restartOnSettings": False}) == annotations({"restartOnSettings": False}) == {}


def test_changed_secrets_of_the_chart_restart_the_nodes() -> None:
    """They are read from the environment, which does not change in a running process."""
    secret = VARIANTS["trial"]["secret"]
    rotated = {**secret, "data": {**secret["data"], "hmacSecret": "another-horse-0123456789-0123456789"}}
    assert annotations({"secret": secret}) != annotations({"secret": rotated})


def test_upgrade_of_the_chart_alone_restarts_nothing() -> None:
    """Its version stands on the objects and not on the pods."""
    manifests = render({})
    version = the(manifests, "Deployment")["metadata"]["labels"]["helm.sh/chart"]
    assert re.fullmatch(r"gateway-\d+\.\d+\.\d+", version)
    assert version not in str(the(manifests, "Deployment")["spec"])


def test_image_is_named_by_digest_before_tag_before_version() -> None:
    assert container_of(render({"image": {"tag": "edge"}}))["image"] == "pubsub-gateway:edge"
    assert container_of(render(VARIANTS["placed"]))["image"] == "registry.example/gateway@sha256:" + "0" * 64


def test_spread_over_machines_and_zones_can_be_replaced() -> None:
    keys = [each["topologyKey"] for each in pod_of(render({}))["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert not pod_of(render(VARIANTS["placed"]))["topologySpreadConstraints"]
