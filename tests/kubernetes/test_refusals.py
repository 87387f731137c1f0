"""Values that are wrong are refused before anything is installed, in words that say what to change."""

from typing import Any

import pytest

from tests.kubernetes.chart import refusal
from tests.kubernetes.variants import SECRET, VARIANTS

pytestmark = pytest.mark.slow

TRIAL = VARIANTS["trial"]["secret"]


@pytest.mark.parametrize(
    ("values", "place", "words"),
    [
        ({"replicas": "three"}, "/replicas", "got string, want integer"),
        ({"replicas": -1}, "/replicas", "minimum: got -1"),
        ({"replica": 3}, "''", "'replica' not allowed"),
        ({"secret": {"keys": {"redis": "x"}}}, "/secret/keys", "'redis' not allowed"),
        ({"secret": {"name": ""}}, "/secret/name", "does not match"),
        ({"image": {"digest": "latest"}}, "/image/digest", "does not match"),
        ({"service": {"port": 65536}}, "/service/port", "maximum: got 65,536"),
        ({"listenHost": "127.0.0.1"}, "/listenHost", "must be one of '*', '0.0.0.0', '[::]'"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable", "minimum: got 0"),
        ({"autoscaling": {"scaleDown": {"periodSeconds": 3600}}}, "/autoscaling/scaleDown/periodSeconds", "maximum"),
        ({"serviceMonitor": {"interval": 15}}, "/serviceMonitor/interval", "got number, want string"),
        ({"settings": {"drain": {"windw": 3}}}, "/settings/drain", "'windw' not allowed"),
        ({"settings": {"drain": {"window": -1}}}, "/settings/drain/window", "minimum: got -1"),
        (
            {"settings": {"namespaces": {"chat": {"delivery": "sure"}}}},
            "/settings/namespaces/chat/delivery",
            "must be one of 'live', 'recoverable', 'latest'",
        ),
        ({"settings": {"limits": {"channels": 1.5}}}, "/settings/limits/channels", "want integer"),
    ],
    ids=str,
)
def test_schema_names_the_place_and_what_is_allowed(values: dict[str, Any], place: str, words: str) -> None:
    said = refusal(values)
    assert place in said
    assert words in said


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"terminationGracePeriodSeconds": 29},
            "terminationGracePeriodSeconds = 29: shorter than settings.drain.delay + settings.drain.window and 5 s to "
            "end (30 s); the node would be killed with clients on it. Leave it unset, or set 30 or more",
        ),
        ({"terminationGracePeriodSeconds": 30, "settings": {"drain": {"window": 20.5}}}, "set 31 or more"),
        ({"settings": {"listen": "0.0.0.0:80"}}, "settings.listen: set by the chart"),
        ({"settings": {"internal_listen": ""}}, "settings.internal_listen: set by the chart"),
        ({"settings": {"workers": 4}}, "settings.workers: set by the chart: a pod is one node; set replicas"),
        ({"settings": {"node_name": "n"}}, "settings.node_name: set by the chart"),
        ({"settings": {"redis": {"url": "redis://r"}}}, "settings.redis.url: secrets do not belong in a ConfigMap"),
        ({"settings": {"auth": {"hmac_secret": SECRET}}}, "secret.keys.hmacSecret"),
        ({"settings": {"auth": {"hmac_secret_previous": SECRET}}}, "secret.keys.hmacSecretPrevious"),
        ({"settings": {"api": {"keys": [SECRET]}}}, "secret.keys.apiKeys"),
        ({"extraEnv": [{"name": "GATEWAY_DRAIN__WINDOW", "value": "300"}]}, "extraEnv: GATEWAY_DRAIN__WINDOW"),
        ({"secret": {"keys": {"redisUrl": ""}}}, "several nodes need a Redis between them"),
        (
            {"replicas": 1, "autoscaling": {"enabled": True}, "secret": {"keys": {"redisUrl": ""}}},
            "several nodes need a Redis between them",
        ),
        ({"secret": {"create": True}}, "secret.data.apiKeys is empty"),
        (
            {"secret": {**TRIAL, "data": {**TRIAL["data"], "hmacSecret": "too-short"}}},
            "secret.data.hmacSecret: expected 32 bytes or more",
        ),
        (
            {"secret": {**TRIAL, "data": {**TRIAL["data"], "hmacSecret": "<a-secret-that-somebody-is-to-replace>"}}},
            "secret.data.hmacSecret: a placeholder in angle brackets",
        ),
        (
            {"secret": {**TRIAL, "data": {**TRIAL["data"], "apiKeys": f"{SECRET}, too-short"}}},
            "secret.data.apiKeys: expected 32 bytes or more",
        ),
        (
            {"secret": {**TRIAL, "data": {**TRIAL["data"], "apiKeys": "<openssl rand -hex 32>"}}},
            "secret.data.apiKeys: a placeholder in angle brackets",
        ),
        (
            {"secret": {**TRIAL, "data": {**TRIAL["data"], "hmacSecret": "${A_SECRET_THAT_NOBODY_HAS_REPLACED}"}}},
            "secret.data.hmacSecret: a placeholder;",
        ),
        (
            {"secret": {**TRIAL, "data": {**TRIAL["data"], "redisUrl": "valkey:6379"}}},
            "secret.data.redisUrl: expected redis://",
        ),
        ({"settings": {"no_auth": True}}, "settings.allow_open_network"),
        (
            {"resources": {"limits": {"memory": "256Mi"}}},
            "resources.limits.memory = 256Mi: less than a node needs by settings.limits.connections and "
            "settings.limits.waiting (503 MiB)",
        ),
        ({"settings": {"limits": {"waiting": 2**30}}}, "resources.limits.memory = 768Mi: less than"),
        ({"resources": {"limits": {"memory": "1G"}}, "settings": {"limits": {"connections": 200_000}}}, "1G: less"),
        ({"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}, "minReplicas = 9: more than"),
        ({"ingress": {"enabled": True}}, "ingress.hosts is empty"),
    ],
    ids=str,
)
def test_values_that_are_wrong_together_are_refused(values: dict[str, Any], words: str) -> None:
    said = refusal(values)
    assert words in said
    assert SECRET not in said
    assert "too-short" not in said
