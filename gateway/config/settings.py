"""The settings, one section per part. Every default here is the production default, and closed."""

from typing import Annotated, Literal, get_args

from pydantic import (
    Field,
    IPvAnyNetwork,
    model_validator,
)

from gateway.config.fields import (
    Addresses,
    Bytes,
    ChannelName,
    Count,
    EventName,
    File,
    FixedUrl,
    Header,
    NodeUrl,
    Origin,
    PositiveSeconds,
    RedisUrl,
    Seconds,
    Secret,
    Section,
    Text,
)

HookKind = Literal[
    "connect",
    "refresh",
    "subscribe",
    "sub_refresh",
    "publish",
    "rpc",
    "disconnect",
    "unsubscribe",
    "occupied",
    "vacated",
]
HOOK_KINDS: tuple[HookKind, ...] = get_args(HookKind)
# Those that are told of events, which have happened.
EVENT_HOOKS: tuple[HookKind, ...] = ("disconnect", "unsubscribe", "occupied", "vacated")
# Those for channels, by their namespaces.
CHANNEL_HOOKS: tuple[HookKind, ...] = ("subscribe", "sub_refresh", "publish", "unsubscribe", "occupied", "vacated")
Who = Literal["client", "subscriber", "anonymous"]


class RedisSettings(Section):
    url: RedisUrl | None = Field(
        None,
        description="redis://, rediss:// (TLS) or unix:// URL of Redis or Valkey, with user, percent-encoded password "
        "and database. Without it, the node is alone.",
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = Field(
        "gw", description="Start of every key and bus channel; separates environments that share a server."
    )
    partitions: Annotated[int, Field(ge=1, le=4096)] = Field(
        256, description="Partitions of the key space. The first node writes the number to Redis; others must agree."
    )
    tls_ca_file: File | None = Field(None, description="Certificates to trust instead of the system's.")
    connect_timeout: PositiveSeconds = Field(2.0, description="Seconds to connect and log in.")
    publish_timeout: PositiveSeconds = Field(3.0, description="Seconds after which a publish without an answer fails.")
    pending_limit: Bytes = Field(
        16 * 1024 * 1024, description="Bytes of publishes in flight at most; publishes above it fail."
    )
    heartbeat_interval: PositiveSeconds = Field(1.0, description="Seconds between the heartbeats a node sends itself.")
    unsubscribe_linger: Seconds = Field(
        1.0, description="Seconds a channel stays subscribed in Redis after its last subscriber."
    )
    durable: bool = Field(
        False,
        description="The server loses nothing when it restarts (appendfsync always), and no replica ever takes over: "
        "positions stay valid after a restart.",
    )


class AuthSettings(Section):
    anonymous: bool = Field(False, description="Let clients connect without a token.")
    hmac_secret: Secret | None = Field(None, description="Key of HS256, HS384 and HS512 tokens, 32 bytes or more.")
    hmac_secret_previous: Secret | None = Field(None, description="The previous key, accepted while you rotate.")
    public_key: Text | None = Field(
        None, description="PEM public key: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA."
    )
    public_key_previous: Text | None = Field(None, description="The previous key, accepted while you rotate.")
    jwks_file: File | None = Field(None, description="File with a JSON Web Key Set.")
    jwks_url: FixedUrl | None = Field(None, description="Fixed URL of a JSON Web Key Set. Never built from claims.")
    jwks_ttl: PositiveSeconds = Field(300.0, description="Seconds after which the key set is fetched again.")
    audience: Text | None = Field(None, description="Required `aud` of tokens. Unset: tokens with `aud` are refused.")
    issuer: Text | None = Field(None, description="Required `iss` of tokens. Unset: not checked.")
    leeway: Annotated[float, Field(ge=0, le=300)] = Field(
        5.0, description="Seconds of clock difference that are tolerated in exp, nbf and iat."
    )
    cookie: str = Field("", description="Name of a cookie that may carry the token. Turns origins.required on.")

    @property
    def has_key(self) -> bool:
        """Whether there is a key to check tokens with."""
        return any((self.hmac_secret, self.public_key, self.jwks_file, self.jwks_url))


class ApiSettings(Section):
    keys: tuple[Secret, ...] = Field((), description="Keys that backends send as X-API-Key, 32 bytes or more.")
    insecure: bool = Field(
        False,
        description="Answer without a key. Requests with an Origin header (browsers) are still refused.",
    )
    public: bool = Field(True, description="Serve /api on the public listener too, not only on the internal one.")
    max_body: Bytes = Field(4 * 1024 * 1024, description="Largest request body, in bytes.")
    max_batch: Annotated[int, Field(ge=1)] = Field(
        10_000, description="At most so many commands in a batch, and channels in a broadcast or in all of a batch."
    )


class OriginSettings(Section):
    allowed: tuple[Origin, ...] = Field(
        (),
        description="Origins whose pages may connect: https://example.com, https://*.example.com, or * for all.",
    )
    required: bool | None = Field(
        None,
        description="Refuse connections without an Origin header. Default: only if auth.cookie is set.",
    )


# Of a subscribe command: the name of a channel has up to 255 bytes, a token mostly 300 to 1,000.
SUBSCRIBE_BYTES = 2_048


class LimitSettings(Section):
    """Zero switches a limit off, where zero is allowed."""

    message_size: Annotated[int, Field(ge=1, le=16 * 1024 * 1024)] = Field(
        65_536, description="Largest command or message of a client, or publication of a backend, in bytes."
    )
    outbox: Bytes = Field(1_048_576, description="Bytes that may wait for a slow client before it is closed (3008).")
    waiting: Annotated[int, Field(ge=16 * 1024 * 1024)] = Field(
        256 * 1024 * 1024,
        description="Bytes that may wait in the memory of one node: for slow clients, for fan-out, for reads, as "
        "requests, and as parts of messages. Above it, the users who hold most are closed, or channels are told of a "
        "gap.",
    )
    channels: Annotated[int, Field(ge=1)] = Field(128, description="Channels per connection.")
    history: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000, description="Publications in one answer to a client: a page of history, or a recovery."
    )
    presence: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1_000,
        description="Members in one answer to a client, which takes at most half of limits.outbox. In a larger channel "
        "the answer is error 106.",
    )
    connections: Count = Field(0, description="Connections per node. 0: the descriptor limit less 256.")
    unauthenticated: Annotated[int, Field(ge=1)] = Field(
        4_096,
        description="Connections per node that have not authenticated yet; at the limit the oldest is dropped.",
    )
    unauthenticated_per_address: Count = Field(
        1_024,
        description="The same per address (per IPv6 /64), except for addresses in trusted_proxies. 0: no limit.",
    )
    connections_per_user: Count = Field(0, description="Connections per user and node. 0: no limit.")
    connections_per_address: Count = Field(0, description="Connections per client address and node. 0: no limit.")
    commands_per_second: Count = Field(
        1_000,
        description="Commands per second and connection; above it the node stops reading. 0: no limit.",
    )
    subscribes_per_second: Count = Field(
        500,
        description="Subscribes per second, user and node (per connection for anonymous clients); above it they are "
        "refused (111). 0: no limit.",
    )
    channels_per_user: Count = Field(
        0,
        description="Channels per user and node, over all its connections. Channels that tokens and the backend opened "
        "count, but are never refused. 0: no limit.",
    )
    publishes_per_second: Count = Field(
        200,
        description="Publishes per second, user and node (per connection for anonymous clients); above it they are "
        "refused (111). 0: no limit.",
    )
    header_bytes: Bytes = Field(16_384, description="Bytes of request line and headers.")
    header_count: Annotated[int, Field(ge=1)] = Field(100, description="Headers of a request.")
    header_timeout: PositiveSeconds = Field(10.0, description="Seconds to send a complete request head.")
    keep_alive: PositiveSeconds = Field(
        75.0,
        description="Seconds that an HTTP connection stays open without a request. Set it longer than the proxy in "
        "front does (nginx and AWS ALB: 60).",
    )
    fragments: Annotated[int, Field(ge=1)] = Field(1_024, description="Fragments of one WebSocket message.")

    @property
    def frame_size(self) -> int:
        """Bytes of one WebSocket message: SDKs send a connect and a subscribe for each channel in one."""
        return self.message_size + self.channels * SUBSCRIBE_BYTES


class CompressionSettings(Section):
    """permessage-deflate (RFC 7692) of WebSockets."""

    enabled: bool = Field(
        False,
        description="Compress publications to WebSocket clients that offer it. On the gateway's own server; others "
        "have a setting of theirs.",
    )
    level: Annotated[int, Field(ge=1, le=6)] = Field(
        1, description="1 is the fastest. 6 saves a quarter of the bytes more, and takes four times as long."
    )
    min_size: Bytes = Field(256, description="Messages of fewer bytes, for which it hardly pays, are sent as they are.")


class SocketioNamespace(Section):
    """What clients of Socket.IO get and may do in one of its namespaces."""

    everyone: ChannelName | Literal[""] = Field(
        "",
        description="Channel that every Socket.IO client is subscribed to when it connects; what is emitted to no room "
        "goes there. Default: none; demo:chat with demo.",
    )
    recovery: bool = Field(
        False,
        description="Give Socket.IO clients that reconnect what they missed (connection state recovery). Each event "
        "then has one more argument, a string.",
    )
    own: Annotated[str, Field(pattern=r"^[!-~]{0,219}$")] = Field(
        "",
        description="Prefix of a channel of each Socket.IO client's own, which ends with its socket.id: what is "
        "emitted to a socket goes there. Empty: no such channels.",
    )
    events: dict[EventName, ChannelName] = Field(
        {},
        description="Events that Socket.IO clients may publish, by name, and the channel of each. Default: none; "
        "message to demo:chat with demo.",
    )


class EmitterSettings(Section):
    """Services that emit through Redis with libraries of Socket.IO."""

    enabled: bool = Field(
        False, description="Publish what services emit through Redis (redis.url) with libraries of Socket.IO."
    )
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,64}$")] = Field(
        "socket.io", description="Option key of @socket.io/redis-emitter in your services."
    )
    channel: Annotated[str, Field(pattern=r"^[!-~]{1,255}$")] = Field(
        "socketio", description="Argument channel of the managers of python-socketio in your services."
    )


class SocketioSettings(SocketioNamespace):
    """Clients of Socket.IO v3 and v4, in the main namespace and in others."""

    namespaces: dict[Annotated[str, Field(pattern=r"^/[^\x00-\x20,?\x7f]{1,254}$")], SocketioNamespace] = Field(
        {}, description="Other namespaces of Socket.IO, by name, as in /admin: each may have everyone and events."
    )
    emitters: EmitterSettings = EmitterSettings()


class HeartbeatSettings(Section):
    ping_interval: PositiveSeconds = Field(25.0, description="Seconds between pings to a client.")
    pong_timeout: PositiveSeconds = Field(
        8.0, description="Seconds to answer a ping; after that the connection is closed (3012)."
    )
    connect_timeout: PositiveSeconds = Field(25.0, description="Seconds to authenticate after the socket opened.")
    expired_grace: Annotated[float, Field(ge=0, le=3600)] = Field(
        25.0, description="Seconds to send a fresh token after one has expired."
    )

    @model_validator(mode="after")
    def _pong_fits(self) -> "HeartbeatSettings":
        if self.pong_timeout >= self.ping_interval:
            raise ValueError("pong_timeout must be shorter than ping_interval")
        return self


class DrainSettings(Section):
    delay: Seconds = Field(0.0, description="Seconds between 'not ready' and the first close, for balancers to notice.")
    window: Seconds = Field(
        10.0,
        description="Seconds over which the connections are closed. Unless set: 0 with no_auth, for Ctrl-C in a "
        "terminal, and on the server of an application.",
    )


class TlsSettings(Section):
    certificate: File | None = Field(None, description="PEM certificate chain of the public listener.")
    key: File | None = Field(None, description="PEM private key of the certificate.")


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is logged.")
    format: Literal["auto", "human", "json"] = Field("auto", description="auto: human on a terminal, JSON otherwise.")


class NamespaceSettings(Section):
    """Options of the channels of a namespace."""

    delivery: Literal["live", "recoverable", "latest"] = Field(
        "live",
        description="live: publications as they come. recoverable: also those missed during an interruption. latest: "
        "the newest value of each key.",
    )
    allow_subscribe: tuple[Literal["client", "anonymous"], ...] = Field(
        (), description="Who may subscribe without a subscription token: client (with a user id), anonymous."
    )
    allow_publish: tuple[Who, ...] = Field(
        (), description="Who may publish: client (with a user id), subscriber (of the channel), anonymous."
    )
    user_limited: bool = Field(
        False, description="Let the users named after # in a channel's name (room#17,42) subscribe."
    )
    allow_history: tuple[Who, ...] = Field(
        ("subscriber",), description="Who may read the history: client (with a user id), subscriber, anonymous."
    )
    latest_key: Text = Field(
        "key", description="With latest: the tag that holds the key of a publication; without it, the key is empty."
    )
    latest_interval: Annotated[float, Field(ge=0, le=3600)] = Field(
        0.5,
        description="With latest: seconds between two publications of a key to a subscriber, unless its token says "
        "otherwise.",
    )
    latest_ttl: Annotated[int, Field(ge=1, le=31_536_000)] = Field(
        3_600, description="With latest: seconds after which a value is forgotten."
    )
    latest_keys: Annotated[int, Field(ge=1, le=5_000)] = Field(
        1_000, description="With latest: keys per channel at most."
    )
    latest_size: Annotated[int, Field(ge=1, le=1_048_576)] = Field(
        524_288, description="With latest: bytes of all values of a channel, plus 128 and the key for each value."
    )
    delta: bool = Field(
        False,
        description="Send publications as Fossil deltas from the previous one, to subscribers that ask for it.",
    )
    presence: bool | None = Field(
        None,
        description="Keep track of who is in a channel. Default: off, except where no_auth and demo open channels.",
    )
    allow_presence: tuple[Who, ...] = Field(
        (), description="Who may read the presence: client (with a user id), subscriber, anonymous."
    )
    join_leave: Literal["off", "clients", "users"] = Field(
        "off",
        description="Tell subscribers who joins and leaves: every connection (clients), or the first and the last one "
        "of each user (users).",
    )
    join_leave_limit: Annotated[int, Field(ge=1)] = Field(
        100, description="Members of a channel above which joins and leaves are not sent (the cost is quadratic)."
    )
    leave_grace: Annotated[float, Field(ge=0, le=3600)] = Field(
        10.0, description="With join_leave = users: seconds in which a user may come back before its leave is sent."
    )
    announce_gaps: bool = Field(
        True, description="Without history: tell subscribers (2500) when publications may have been missed."
    )
    history_size: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="Publications kept, 0 for none. Default: 1000 where delivery is recoverable, 0 elsewhere."
    )
    history_ttl: Annotated[int, Field(ge=1, le=31_536_000)] = Field(
        300, description="Seconds that the history is kept after the newest publication."
    )
    history_meta_ttl: Annotated[int, Field(ge=1, le=315_360_000)] = Field(
        2_592_000, description="Seconds that the position is kept after the newest publication; at least history_ttl."
    )
    recovery: Literal["stream", "cache"] = Field(
        "stream",
        description="A returning subscriber gets all it missed (stream), or only the newest publication (cache).",
    )


class PersonalSettings(Section):
    enabled: bool = Field(False, description="Subscribe every connection with a user id to its personal channel.")
    namespace: str = Field("", description="Namespace of personal channels: NAMESPACE:#USER, or #USER when empty.")


ObjectName = Annotated[str, Field(pattern=r"^([\w.]+:[\w.]+)?$")]


class HttpHookSettings(Section):
    """Hooks of a backend: a URL for each kind that it answers."""

    connect: FixedUrl | None = Field(None, description="URL that is asked for every client that connects.")
    refresh: FixedUrl | None = Field(None, description="URL that is asked when a connection is about to expire.")
    subscribe: FixedUrl | None = Field(None, description="URL that is asked for subscribes without a token.")
    sub_refresh: FixedUrl | None = Field(None, description="URL that is asked when a subscription is about to expire.")
    publish: FixedUrl | None = Field(None, description="URL that is asked for publishes of clients.")
    rpc: FixedUrl | None = Field(None, description="URL that answers calls of clients.")
    disconnect: FixedUrl | None = Field(None, description="URL that is told of connections that have ended.")
    unsubscribe: FixedUrl | None = Field(None, description="URL that is told of subscriptions that have ended.")
    occupied: FixedUrl | None = Field(None, description="URL that is told of channels with a first subscription.")
    vacated: FixedUrl | None = Field(None, description="URL that is told of channels without subscriptions.")
    namespaces: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,64}$")], ...] = Field(
        (),
        description="Namespaces that the hooks for channels (subscribe, sub_refresh, publish, unsubscribe, occupied, "
        "vacated) are for; an empty name is that of channels without one. Default: all that no hook in Python names.",
    )
    headers: tuple[Header, ...] = Field(
        (), description="Headers of the client's request that are forwarded, such as cookie and authorization."
    )
    secret: Secret | None = Field(
        None, description="Key that signs the requests (X-Gateway-Signature), 32 bytes or more."
    )
    timeout: Annotated[float, Field(gt=0, le=30)] = Field(
        3.0, description="Seconds that a call may take, waiting for its turn included."
    )
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = Field(
        100, description="Calls of one kind that a node makes at once. Others wait their turn."
    )
    when_unavailable: Literal["refuse", "allow"] = Field(
        "refuse",
        description="While the backend cannot be asked: refuse clients (error 100), or allow what would be allowed "
        "without hooks.",
    )

    @property
    def urls(self) -> dict[HookKind, str]:
        """By kind, without those that are not set."""
        found = ((kind, getattr(self, kind)) for kind in HOOK_KINDS)
        return {kind: url.get_secret_value() for kind, url in found if url is not None}


class HookSettings(Section):
    python: ObjectName = Field(
        "", description="MODULE:NAME of the Hooks object with your code, as in myapp.realtime:hooks."
    )
    http: HttpHookSettings = HttpHookSettings()


class ServerSettings(Section):
    """Everything, by part. `listen` and its neighbours have no section."""

    listen: Annotated[Addresses, Field(min_length=1)] = Field(
        ("127.0.0.1:8000",),
        description="Public listener: clients, /health and /api. One or more of HOST:PORT, *:PORT (IPv4 and IPv6) and "
        "unix:PATH.",
    )
    internal_listen: Addresses = Field(
        ("127.0.0.1:9000",),
        description="Internal listener: /api, /metrics and /health. Addresses as for listen; empty for none.",
    )
    node_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = Field(
        "", description="Name of this node in logs and answers. Default: host name and process id."
    )
    node_url: NodeUrl = Field(
        "", description="URL at which clients reach this node directly, without the balancer; shown by the demo page."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(1, description="Nodes (processes) that share the listener.")
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Networks of the proxies whose forwarding headers are trusted for the client's address."
    )
    demo: bool = Field(False, description="Serve the demo page and open the namespace demo.")
    no_auth: bool = Field(
        False,
        description="Development: everybody may connect, subscribe, publish, call the API. Pages of other origins "
        "still need origins.allowed.",
    )
    allow_open_network: bool = Field(
        False, description="Allow no_auth and demo on addresses other than loopback, open to that whole network."
    )
    redis: RedisSettings = RedisSettings()
    auth: AuthSettings = AuthSettings()
    api: ApiSettings = ApiSettings()
    origins: OriginSettings = OriginSettings()
    limits: LimitSettings = LimitSettings()
    compression: CompressionSettings = CompressionSettings()
    socketio: SocketioSettings = SocketioSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    drain: DrainSettings = DrainSettings()
    tls: TlsSettings = TlsSettings()
    log: LogSettings = LogSettings()
    channels: NamespaceSettings = Field(NamespaceSettings(), description="Options of channels without a namespace.")
    namespaces: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], NamespaceSettings] = Field(
        {}, description="Options of channels NAME:rest, by NAME."
    )
    personal: PersonalSettings = PersonalSettings()
    hooks: HookSettings = HookSettings()
    app: ObjectName = Field(
        "", description="MODULE:NAME of an ASGI application with a Gateway() in it, to be served with the node."
    )

    @property
    def main_namespace(self) -> SocketioNamespace:
        """The main namespace of Socket.IO. In a demo it has the chat with which everybody begins."""
        everyone, events = self.socketio.everyone, self.socketio.events
        if self.demo:
            everyone = everyone or "demo:chat"
            events = events or {"message": "demo:chat"}
        return SocketioNamespace(
            everyone=everyone, recovery=self.socketio.recovery, own=self.socketio.own, events=events
        )

    @property
    def admits_anonymous(self) -> bool:
        """Whether clients without a token may connect. Visitors of the demo page have none."""
        return self.auth.anonymous or self.no_auth or self.demo
