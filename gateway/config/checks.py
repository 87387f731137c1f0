"""Settings that are valid individually but not in combination."""

import re
from collections.abc import Callable, Collection, Iterator
from itertools import combinations
from pathlib import Path

from pydantic import SecretStr

from gateway.config.listen_addresses import is_local, overlap, parse
from gateway.config.settings import CHANNEL_HOOKS, SUBSCRIBE_BYTES, NamespaceSettings, ServerSettings

# Where a setting (by its dotted name) comes from, in parentheses after a space; empty when that is not known.
Origin = Callable[[str], str]

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


def errors(settings: ServerSettings, origin: Origin = lambda name: "") -> list[str]:
    """Why a node cannot start with these settings; each text names the settings to change, and where they come from."""
    return [
        *_open_network(settings, origin),
        *_secrets(settings, origin),
        *_tls(settings, origin),
        *_processes(settings, origin),
        *_code(settings, origin),
        *_listeners(settings, origin),
    ]


def warnings(settings: ServerSettings) -> list[str]:
    """Settings that probably do not do what was intended; each text names them."""
    return [
        *_open_modes(settings),
        *_authentication(settings),
        *_api(settings),
        *_browsers(settings),
        *_engine(settings),
        *_channels(settings),
        *_hooks(settings),
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


def _open_network(settings: ServerSettings, origin: Origin) -> Iterator[str]:
    """`no_auth` and `demo` are allowed on a network only if a setting says so explicitly."""
    opened = [name for name in ("no_auth", "demo") if getattr(settings, name)]
    if not opened or settings.allow_open_network:
        return
    for name in ("listen", "internal_listen"):
        for address in getattr(settings, name):
            if not is_local(address):
                yield (
                    f"{name} = {address!r}{origin(name)}: {' and '.join(opened)} would open the gateway to everybody "
                    "on that network; listen on 127.0.0.1, or set allow_open_network if you want that"
                )


def _secrets(settings: ServerSettings, origin: Origin) -> Iterator[str]:
    auth = settings.auth
    named: dict[str, SecretStr | None] = {
        "auth.hmac_secret": auth.hmac_secret,
        "auth.hmac_secret_previous": auth.hmac_secret_previous,
        "hooks.http.secret": settings.hooks.http.secret,
        **{f"api.keys[{index}]": key for index, key in enumerate(settings.api.keys)},
    }
    for name, secret in named.items():
        if secret is not None and (problem := weakness(secret.get_secret_value())):
            yield f"{name} = ***{origin(name.partition('[')[0])}: {problem}"


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


def _tls(settings: ServerSettings, origin: Origin) -> Iterator[str]:
    if (settings.tls.certificate is None) != (settings.tls.key is None):
        missing, given = ("key", "certificate") if settings.tls.key is None else ("certificate", "key")
        yield f"tls.{missing}: not set, but tls.{given} is{origin(f'tls.{given}')}; TLS needs both"


def _processes(settings: ServerSettings, origin: Origin) -> Iterator[str]:
    if settings.workers > 1 and settings.redis.url is None:
        yield (
            f"redis.url: not set, but workers = {settings.workers}{origin('workers')}; several nodes need a Redis "
            "between them, otherwise messages stay on the node that received them"
        )


def _code(settings: ServerSettings, origin: Origin) -> Iterator[str]:
    if settings.app and settings.hooks.python:
        where = origin("hooks.python")
        yield f"hooks.python{where} and app are both set: give the hooks to the Gateway() of the application"


def _listeners(settings: ServerSettings, origin: Origin) -> Iterator[str]:
    named = [(name, address) for name in ("listen", "internal_listen") for address in getattr(settings, name)]
    for (name, address), (later, other) in combinations(named, 2):
        if overlap(parse(address), parse(other)):
            yield f"{later} = {other!r}{origin(later)}: already taken by {name} = {address!r}{origin(name)}"


def _open_modes(settings: ServerSettings) -> Iterator[str]:
    if settings.allow_open_network and not _is_tried(settings):
        yield "allow_open_network is without effect: neither no_auth nor demo is on"
    api = "" if settings.api.keys else " and call the API"
    if settings.no_auth:
        yield (
            f"no_auth: everybody who reaches the listeners may connect, subscribe, publish{api}; for development only. "
            "Pages of other origins may only if origins.allowed names them"
        )
    if settings.demo:
        yield f"demo: everybody who reaches the listeners may connect and use the channels demo:*{api}"


def _authentication(settings: ServerSettings) -> Iterator[str]:
    auth = settings.auth
    if not auth.has_key:
        for name in ("audience", "issuer", "cookie"):
            if getattr(auth, name):
                yield f"auth.{name} is set, but no key to check tokens with (auth.hmac_secret, public_key or jwks_*)"
        # (Hooks in Python, perhaps those of an application, may let clients in as well; they are not loaded here.)
        may_have_hooks = settings.hooks.http.connect or settings.hooks.python or settings.app
        if not (settings.admits_anonymous or may_have_hooks):
            yield (
                "nobody can connect: no key to check tokens with (auth.hmac_secret, public_key or jwks_*), "
                "and auth.anonymous is off"
            )
    for name in ("hmac_secret", "public_key"):
        if getattr(auth, f"{name}_previous") and not getattr(auth, name):
            yield f"auth.{name}_previous is set, but auth.{name} is not"
    if auth.jwks_url is None and "jwks_ttl" in auth.model_fields_set:
        yield "auth.jwks_ttl is without effect: auth.jwks_url is not set"
    if auth.jwks_url and auth.jwks_url.get_secret_value().startswith("http://"):
        yield "auth.jwks_url is not https: anybody who can change the answer on its way can sign tokens"


def _api(settings: ServerSettings) -> Iterator[str]:
    api = settings.api
    if api.insecure or (_is_tried(settings) and not api.keys):
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
    if not (settings.origins.allowed or _is_tried(settings) or settings.auth.cookie):
        yield "origins.allowed is empty: no page in a browser may connect, only other clients"
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
        yield from _without_effect(name, options, opened=_is_opened(settings, name))
    if settings.personal.namespace and not settings.personal.enabled:
        yield "personal.namespace is set, but personal.enabled is off"
    if (given := _listed("compression", settings.compression.model_fields_set - {"enabled"})) and (
        not settings.compression.enabled
    ):
        yield f"{given} without effect: compression.enabled is off"


def _is_tried(settings: ServerSettings) -> bool:
    """Whether somebody tries the gateway, who wants to hear of what is open and of nothing else."""
    return settings.no_auth or settings.demo


def _is_opened(settings: ServerSettings, section: str) -> bool:
    """Whether no_auth or demo open the channels of this section, with a history and presence (channels.py)."""
    return settings.no_auth if section == "channels" else section == "namespaces.demo" and _is_tried(settings)


def _engine(settings: ServerSettings) -> Iterator[str]:
    redis = settings.redis
    if redis.url is None:
        if not _is_tried(settings):
            yield (
                "redis.url is not set: this node is alone. Messages do not reach other nodes, and histories, presence "
                "and revocations are lost when it ends"
            )
        if given := _listed("redis", redis.model_fields_set - {"url"}):
            yield f"{given} without effect: redis.url is not set"
        if settings.socketio.emitters.enabled:
            yield "socketio.emitters.enabled is without effect: redis.url is not set"
    elif redis.tls_ca_file is not None and not redis.url.get_secret_value().startswith("rediss://"):
        yield "redis.tls_ca_file is without effect: redis.url has no TLS (rediss://)"


# Options of a namespace that something else has to be switched on for.
_OF_HISTORY = frozenset({"allow_history", "history_ttl", "history_meta_ttl", "recovery"})
_OF_LATEST = frozenset({"latest_key", "latest_interval", "latest_ttl", "latest_keys", "latest_size"})


def _without_effect(name: str, options: NamespaceSettings, *, opened: bool) -> Iterator[str]:
    given = options.model_fields_set
    recoverable = options.delivery == "recoverable" or (opened and "delivery" not in given)
    is_latest = options.delivery == "latest"
    has_history = not is_latest and bool(recoverable if options.history_size is None else options.history_size)
    has_presence = bool(options.presence) or options.join_leave != "off" or (opened and options.presence is None)
    if recoverable and options.history_size == 0:
        yield f"{name}.history_size = 0: there is no history to recover from, so delivery is that of 'live'"
    if not has_history and (idle := _listed(name, given & _OF_HISTORY)):
        yield f"{idle} without effect: the channels have no history (delivery = 'recoverable', or history_size)"
    if has_history and "announce_gaps" in given:
        yield f"{name}.announce_gaps is without effect: it is for channels without history"
    if not is_latest and (idle := _listed(name, given & _OF_LATEST)):
        yield f"{idle} without effect: delivery is not 'latest'"
    if is_latest and options.delta:
        yield f"{name}.delta is without effect with delivery = 'latest'"
    if not has_presence and options.allow_presence:
        yield f"{name}.allow_presence is without effect: the channels have no presence ({name}.presence)"
    if options.join_leave == "off" and "join_leave_limit" in given:
        yield f"{name}.join_leave_limit is without effect: {name}.join_leave is off"
    if options.join_leave != "users" and "leave_grace" in given:
        yield f"{name}.leave_grace is without effect: {name}.join_leave is not 'users'"


def _listed(section: str, names: Collection[str]) -> str:
    """The settings of a section, with the verb; empty for none."""
    if not names:
        return ""
    return f"{', '.join(f'{section}.{name}' for name in sorted(names))} {'is' if len(names) == 1 else 'are'}"


def _hooks(settings: ServerSettings) -> Iterator[str]:
    http = settings.hooks.http
    if not http.urls:
        if given := _listed("hooks.http", http.model_fields_set):
            yield f"{given} without effect: hooks.http has no URL"
        return
    if http.secret is None:
        yield "hooks.http.secret is not set: the backend cannot tell the gateway's requests from others"
    if http.namespaces and not http.urls.keys() & set(CHANNEL_HOOKS):
        yield "hooks.http.namespaces is without effect: no URL is for channels"
    if http.timeout > REPLY_SECONDS:
        yield f"hooks.http.timeout is more than {REPLY_SECONDS} s: client libraries give up earlier"


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
