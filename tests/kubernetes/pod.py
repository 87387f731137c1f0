"""What the kubelet would make of the rendered objects: environment, files, and variables of Services."""

from pathlib import Path, PurePosixPath

from tests.kubernetes.chart import Manifest, container_of, pod_of, the
from tests.kubernetes.variants import STORED

# As a ReplicaSet names them: ten characters of its own hash, five of the pod.
NAME = "-7d4b9c6f58-x2x9z"


def environment(manifests: list[Manifest]) -> dict[str, str]:
    """The variables of the container; secrets from the chart's own Secret, or from one that exists."""
    made = [manifest for manifest in manifests if manifest["kind"] == "Secret"]
    name, stored = (made[0]["metadata"]["name"], made[0]["stringData"]) if made else ("gateway-secrets", STORED)
    variables: dict[str, str] = {}
    for entry in container_of(manifests)["env"]:
        assert entry["name"] not in variables, "the last one would count"
        if "value" in entry:
            variables[entry["name"]] = entry["value"]
        elif "fieldRef" in entry["valueFrom"]:
            assert entry["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
            variables[entry["name"]] = the(manifests, "Deployment")["metadata"]["name"] + NAME
        else:
            reference = entry["valueFrom"]["secretKeyRef"]
            assert reference["name"] == name
            assert not reference.get("optional")
            variables[entry["name"]] = stored[reference["key"]]
    return variables


def settings_file(manifests: list[Manifest], folder: Path) -> Path:
    """The file that GATEWAY_CONFIG names, written to `folder` as the volume would hold it."""
    mounts = {mount["name"]: mount for mount in container_of(manifests)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_of(manifests)["volumes"]}
    assert mounts.keys() == volumes.keys()
    # With a subPath the file would never change.
    assert "subPath" not in mounts["settings"]
    path = PurePosixPath(environment(manifests)["GATEWAY_CONFIG"])
    assert path.parent == PurePosixPath(mounts["settings"]["mountPath"])
    source = the(manifests, "ConfigMap", volumes["settings"]["configMap"]["name"])
    (folder / path.name).write_text(source["data"][path.name])
    return folder / path.name


def service_links(manifests: list[Manifest]) -> dict[str, str]:
    """What Kubernetes would add for the chart's Services (kubernetes.io: "Accessing the Service")."""
    variables: dict[str, str] = {}
    for service in (manifest for manifest in manifests if manifest["kind"] == "Service"):
        name = service["metadata"]["name"].upper().replace("-", "_")
        variables[f"{name}_SERVICE_HOST"] = "10.0.0.1"
        for index, port in enumerate(service["spec"]["ports"]):
            number, url = port["port"], f"tcp://10.0.0.1:{port['port']}"
            if index == 0:
                variables |= {f"{name}_SERVICE_PORT": str(number), f"{name}_PORT": url}
            variables[f"{name}_SERVICE_PORT_{port['name'].upper()}"] = str(number)
            each = f"{name}_PORT_{number}_TCP"
            variables |= {each: url, f"{each}_PROTO": "tcp", f"{each}_PORT": str(number), f"{each}_ADDR": "10.0.0.1"}
    return variables
