"""Values that people install the chart with: each has to be right by the schemas of Kubernetes and to start a node."""

from typing import Any

SECRET = "correct-horse-battery-staple-0123456789"
API_KEYS = "first-key-0123456789-0123456789-0,second-key-0123456789-0123456789"
REDIS_URL = "redis://:sesame@redis.example:6379/0"

# By key of the Secret of the default values, and of `rotating`.
STORED = {
    "redis-url": REDIS_URL,
    "hmac-secret": SECRET,
    "hmac-secret-old": SECRET[::-1],
    "api-keys": API_KEYS,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "alone": {"replicas": 1, "secret": {"keys": {"redisUrl": ""}}},
    "trial": {
        "secret": {
            "name": "trial-secrets",
            "create": True,
            "data": {"redisUrl": REDIS_URL, "hmacSecret": SECRET, "apiKeys": API_KEYS},
        }
    },
    "rotating": {"secret": {"keys": {"hmacSecretPrevious": "hmac-secret-old"}}, "restartOnSettings": False},
    "ingress": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600"},
            "hosts": ["gateway.example.com", "live.example.com"],
            "tls": [{"secretName": "gateway-tls", "hosts": ["gateway.example.com"]}],
        },
        "settings": {"trusted_proxies": ["10.0.0.0/8"], "origins": {"allowed": ["https://example.com"]}},
        "networkPolicy": {"internalFrom": [{"podSelector": {"matchLabels": {"app": "backend"}}}]},
    },
    "balanced": {
        "service": {
            "type": "LoadBalancer",
            "port": 443,
            "externalTrafficPolicy": "Local",
            "loadBalancerClass": "example.com/network",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "annotations": {"example.com/idle-timeout": "120"},
        },
        "settings": {"tls": {"certificate": "/tls/tls.crt", "key": "/tls/tls.key"}},
        "extraVolumes": [{"name": "tls", "secret": {"secretName": "gateway-tls"}}],
        "extraVolumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": True}],
    },
    "scaled": {
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 40, "cpu": None},
        "podDisruptionBudget": {"maxUnavailable": "20%"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {
            "internalFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
    },
    "placed": {
        "fullnameOverride": "gw",
        "listenHost": "[::]",
        "image": {
            "repository": "registry.example/gateway",
            "digest": "sha256:" + "0" * 64,
            "pullSecrets": [{"name": "registry"}],
        },
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "realtime", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [],
        "serviceAccountName": "gateway",
        "priorityClassName": "high",
        "podAnnotations": {"example.com/team": "live"},
        "podLabels": {"team": "live"},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
    "everything set": {
        "terminationGracePeriodSeconds": 400,
        "settings": {
            "drain": {"delay": 7.5, "window": 300},
            "limits": {"connections": 50_000, "outbox": 4_194_304, "connections_per_address": 20},
            "heartbeat": {"ping_interval": 12.5},
            "redis": {"prefix": "live", "durable": True},
            "auth": {"anonymous": True, "public_key": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"},
            "api": {"public": True},
            "channels": {"allow_subscribe": ["client", "anonymous"]},
            "namespaces": {
                "chat": {"delivery": "recoverable", "allow_publish": ["subscriber"], "history_ttl": 600},
                "we.ird-na_me": {"delivery": "latest", "latest_interval": 0.25, "presence": True},
            },
            "personal": {"enabled": True},
        },
    },
}
