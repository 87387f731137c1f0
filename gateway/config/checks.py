"""Settings that are valid individually but not in combination."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from pydantic import SecretStr

from gateway.config.listen_addresses import is_local, overlap, parse
from gateway.config.settings import SUBSCRIBE_BYTES, ServerSettings

# RFC 7518 section 3.2: a key of at least the hash's size, 256 bits for HS256. A shorter API key may be guessed as well.
SECRET_BYTES = 32
# The chance that 64 random hexadecimal digits have fewer than 8 different ones is below 10^-18.
LEAST_CHARACTERS = 8
# Template variables that were not replaced, and texts that ask to be changed.
_PLACEHOLDER = re.compile(r"^\$?\{.*\}$|change[ _-]?(me|this|it)|replace[ _-]?(me|this|with)", re.IGNORECASE)
# Kubernetes kills a pod after 30 s; stopping takes some seconds besides the drain.
KILL_SECONDS = 25
# The shortest common default of load balancers' idle timeouts (nginx, AWS ALB, HAProxy examples).
IDLE_SECONDS = 60
# SDKs of the native protocol give up waiting for a reply after 5 s.
REPLY_SECONDS = 5


def errors(settings: ServerSettings) -> list[str]:
    """Why a node cannot start with these settings; each text names the settings to change."""
    return [
        *_open_network(settings),
        *_secrets(settings),
        *_tls(settings),
        *_processes(settings),
        *_listeners(settings),
    ]


def warnings(settings: ServerSettings) -> list[str]:
    """Settings that probably do not do what was intended; each text names them."""
    return [
        *_open_modes(settings),
        *_authentication(settings),
        *_api(settings),
        *_browsers(settings),
        *_channels(settings),
        *_timing(settings),
        *_limits(settings),
    ]


def unreadable(settings: ServerSettings) -> list[str]:
    """Files named in the settings that this process cannot read."""
    named = {
        "redis.tls_ca_file": settings.redis.tls_ca_file,
        "auth.jwks_file": settings.auth.jwks_file,
        "tls.certificate": settings.tls.certificate,
        "tls.key": settings.tls.key,
    }
    return [f"{name}: {problem}" for name, path in named.items() if path and (problem := _read_problem(path))]


def _read_problem(path: Path) -> str:
    try:
        path.open("rb").close()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""


def _open_network(settings: ServerSettings) -> Iterator[str]:
    """`no_auth` and `demo` are allowed on a network only if a setting says so explicitly."""
    opened = [name for name in ("no_auth", "demo") if getattr(settings, name)]
    if not opened or settings.allow_open_network:
        return
    for name in ("listen", "internal_listen"):
        for address in getattr(settings, name):
            if not is_local(address):
                yield (
                    f"{name} = {address!r}: {' and '.join(opened)} would open the gateway to everybody on that "
                    "network; listen on 127.0.0.1, or set allow_open_network if you want that"
                )


def _secrets(settings: ServerSettings) -> Iterator[str]:
    auth = settings.auth
    named: dict[str, SecretStr | None] = {
        "auth.hmac_secret": auth.hmac_secret,
        "auth.hmac_secret_previous": auth.hmac_secret_previous,
        **{f"api.keys[{index}]": key for index, key in enumerate(settings.api.keys)},
    }
    for name, secret in named.items():
        if secret is not None and (problem := weakness(secret.get_secret_value())):
            yield f"{name} = ***: {problem}"


def weakness(secret: str) -> str:
    """Why a secret is refused; empty if it is fine."""
    if secret.startswith("<") and secret.endswith(">"):
        return "a placeholder in angle brackets; `openssl rand -hex 32` makes a secret"
    if _PLACEHOLDER.search(secret):
        return "a placeholder; `openssl rand -hex 32` makes a secret"
    if len(secret.encode()) < SECRET_BYTES:
        return f"expected {SECRET_BYTES} bytes or more; `openssl rand -hex 32` makes one"
    if len(set(secret)) < LEAST_CHARACTERS:
        return f"it has fewer than {LEAST_CHARACTERS} different characters; `openssl rand -hex 32` makes a secret"
    return ""


def _tls(settings: ServerSettings) -> Iterator[str]:
    if (settings.tls.certificate is None) != (settings.tls.key is None):
        missing, given = ("key", "certificate") if settings.tls.key is None else ("certificate", "key")
        yield f"tls.{missing}: not set, but tls.{given} is; TLS needs both"


def _processes(settings: ServerSettings) -> Iterator[str]:
    if settings.workers > 1 and settings.redis.url is None:
        yield (
            f"redis.url: not set, but workers = {settings.workers}; several nodes need a Redis between them, "
            "otherwise messages stay on the node that received them"
        )


def _listeners(settings: ServerSettings) -> Iterator[str]:
    named = [(name, address) for name in ("listen", "internal_listen") for address in getattr(settings, name)]
    for (name, address), (later, other) in combinations(named, 2):
        if overlap(parse(address), parse(other)):
            yield f"{later} = {other!r}: already taken by {name} = {address!r}"


def _open_modes(settings: ServerSettings) -> Iterator[str]:
    api = "" if settings.api.keys else " and call the API"
    if settings.no_auth:
        yield (
            f"no_auth: everybody who reaches the listeners may connect, subscribe, publish{api}; for development only"
        )
    if settings.demo:
        yield f"demo: everybody who reaches the listeners may connect and use the channels demo:*{api}"


def _authentication(settings: ServerSettings) -> Iterator[str]:
    auth = settings.auth
    if not auth.has_key:
        for name in ("audience", "issuer", "cookie"):
            if getattr(auth, name):
                yield f"auth.{name} is set, but no key to check tokens with (auth.hmac_secret, public_key or jwks_*)"
        if not settings.admits_anonymous:
            yield (
                "nobody can connect: no key to check tokens with (auth.hmac_secret, public_key or jwks_*), "
                "and auth.anonymous is off"
            )
    for name in ("hmac_secret", "public_key"):
        if getattr(auth, f"{name}_previous") and not getattr(auth, name):
            yield f"auth.{name}_previous is set, but auth.{name} is not"
    if auth.jwks_url and auth.jwks_url.get_secret_value().startswith("http://"):
        yield "auth.jwks_url is not https: anybody who can change the answer on its way can sign tokens"


def _api(settings: ServerSettings) -> Iterator[str]:
    api = settings.api
    opened = settings.no_auth or settings.demo
    if api.insecure or (opened and not api.keys):
        if api.insecure and api.public and not all(map(is_local, settings.listen)):
            yield "api.insecure and api.public: everybody who reaches listen may publish and disconnect users"
        if api.insecure and not all(map(is_local, settings.internal_listen)):
            yield "api.insecure: everybody who reaches internal_listen may publish and disconnect users"
        return
    if not api.keys:
        where = "api.public is on" if api.public else "the API is on the internal listener"
        yield f"{where}, but api.keys is empty: every request to /api is refused"


def _browsers(settings: ServerSettings) -> Iterator[str]:
    if settings.auth.cookie and not settings.origins.allowed:
        yield "auth.cookie is set, but origins.allowed is empty: no page may connect"
    if settings.auth.cookie and "*" in settings.origins.allowed:
        yield "auth.cookie with origins.allowed = *: any page on the web can connect as the user who visits it"
    if settings.auth.cookie and settings.origins.required is False:
        yield "auth.cookie with origins.required = false: clients without an Origin may connect with a cookie"
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        yield "trusted_proxies contains every address: any client can claim any address"


def _channels(settings: ServerSettings) -> Iterator[str]:
    named = {"channels": settings.channels}
    named.update((f"namespaces.{name}", options) for name, options in settings.namespaces.items())
    for name, options in named.items():
        if options.delivery == "latest" and options.history_size:
            yield f"{name}.history_size has no effect with delivery = 'latest'"
        if options.history_meta_ttl < options.history_ttl:
            yield f"{name}.history_meta_ttl is less than history_ttl, which is used for both"
        if options.join_leave != "off" and options.presence is False:
            yield f"{name}.join_leave keeps track of members, but {name}.presence = false lets nobody read them"
        if options.delivery == "latest" and options.latest_size > settings.limits.outbox:
            yield (
                f"{name}.latest_size is more than limits.outbox: one reply with all values closes a client that is "
                "slow for a moment"
            )
    if settings.personal.namespace and not settings.personal.enabled:
        yield "personal.namespace is set, but personal.enabled is off"


def _timing(settings: ServerSettings) -> Iterator[str]:
    if settings.drain.delay + settings.drain.window > KILL_SECONDS:
        yield (
            f"drain.delay + drain.window is more than {KILL_SECONDS} s: give your process manager more time to stop "
            "a node (Kubernetes kills after 30 s, Docker after 10 s)"
        )
    if settings.heartbeat.ping_interval > IDLE_SECONDS:
        yield f"heartbeat.ping_interval is more than {IDLE_SECONDS} s: many balancers close such idle connections"
    if settings.limits.keep_alive < IDLE_SECONDS:
        yield (
            f"limits.keep_alive is less than {IDLE_SECONDS} s: proxies and connection pools that keep connections "
            "longer lose requests"
        )
    if settings.auth.leeway > settings.heartbeat.expired_grace:
        yield (
            "auth.leeway is more than heartbeat.expired_grace: clients with a token that expired in between connect, "
            "are closed at once (3005), and reconnect"
        )
    if settings.redis.publish_timeout > REPLY_SECONDS:
        yield f"redis.publish_timeout is more than {REPLY_SECONDS} s: client libraries give up earlier"


def _limits(settings: ServerSettings) -> Iterator[str]:
    limits = settings.limits
    # A returning client connects and subscribes to all its channels at once.
    at_once = limits.channels + 1
    if limits.commands_per_second and limits.commands_per_second < at_once:
        yield (
            f"limits.commands_per_second is less than limits.channels allows at once ({at_once}): a client that "
            "reconnects with all its channels has to wait"
        )
    if limits.subscribes_per_second and limits.subscribes_per_second < limits.channels:
        yield (
            "limits.subscribes_per_second is less than limits.channels: a client that reconnects with all its channels "
            "is refused some of them"
        )
    if limits.channels_per_user and limits.channels_per_user < limits.channels:
        yield "limits.channels_per_user is less than limits.channels: no connection can reach limits.channels"
    if limits.unauthenticated_per_address > limits.unauthenticated:
        yield "limits.unauthenticated_per_address is more than limits.unauthenticated and has no effect"
    if limits.message_size < SUBSCRIBE_BYTES:
        yield f"limits.message_size is less than {SUBSCRIBE_BYTES}: a command with a token may not fit"
    if limits.message_size > limits.outbox:
        yield "limits.message_size is more than limits.outbox: one message closes a client that is slow for a moment"
    if limits.outbox > limits.waiting:
        yield "limits.outbox is more than limits.waiting: a slow client is closed before it reaches its own limit"
    if limits.message_size > settings.api.max_body:
        yield "limits.message_size is more than api.max_body: backends cannot publish messages of that size"
