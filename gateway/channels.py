"""What a channel name means, decided once for all protocols: namespace, options, protection.

Names have 1 to 255 characters of printable ASCII, `!` to `~`: no white space and no control characters. Other letters
are not allowed, because in Unicode one visible name can have several spellings, whose subscribers would never meet.
Backends that need other letters in a name encode them (for example with percent-encoding).

    chat:room       namespace `chat`, the part before the first `:`; `room` alone has the options of no namespace
    $chat:room      private: needs a subscription token, or the server subscribes the client; `$` only counts at the
    start chat:room#17,42 user-limited: for the users listed after the last `#`

A `:` after a `#` belongs to the name of a user, never to a namespace.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from gateway.config.settings import NamespaceSettings, ServerSettings
from gateway.errors import BAD_REQUEST, NOT_AVAILABLE, UNKNOWN_CHANNEL, ConfigError, RequestError
from gateway.messages import DEFAULT_APP, NO_OPTIONS, Channel, Latest, PresenceRules, PublishOptions, Retention

NAME = re.compile(r"[!-~]{1,255}")

DEMO = "demo"

# Publications kept with delivery = "recoverable" and no history_size.
RECOVERABLE_SIZE = 1_000

# Resolved names that are cached: clients choose them, so this is bounded. At most about 4 MB.
REMEMBERED = 4096


class ChannelSpec(NamedTuple):
    """What a channel name means."""

    channel: Channel
    # Empty when the name has none.
    namespace: str
    options: NamespaceSettings
    # Whether it needs a subscription token.
    private: bool
    # Those listed after `#`; None when the channel is not limited to users.
    users: frozenset[str] | None
    # How the channel's stream is kept; None when it has none.
    history: Retention | None
    # How its latest values are kept; None unless delivery is "latest".
    latest: Latest | None
    # How clients publish into it.
    publishing: PublishOptions
    # Who is told about joins and leaves; None without presence.
    presence: PresenceRules | None


class Channels:
    """Resolves channel names."""

    def __init__(self, settings: ServerSettings) -> None:
        """Namespaces as configured. Raises ConfigError for namespaces that do not exist, where settings name them.

        With `no_auth`, all clients, also anonymous ones, may subscribe, publish, and read history and presence in
        channels without a namespace and in `demo:`, which exists even if it is not configured; with `demo`, in `demo:`
        only. These channels are recoverable, unless `delivery` is set; `demo` also announces joins and leaves. `$` and
        `#` stay protected, and other namespaces stay as they are configured.
        """
        self._default = _opened(settings.channels) if settings.no_auth else settings.channels
        self._namespaces = dict(settings.namespaces)
        if settings.no_auth or settings.demo:
            self._namespaces[DEMO] = _opened(settings.namespaces.get(DEMO, NamespaceSettings()))
        if settings.demo:
            self._namespaces[DEMO] = _announced(self._namespaces[DEMO])
        personal = settings.personal
        if personal.namespace and personal.namespace not in self._namespaces:
            raise ConfigError(
                f"personal.namespace: {personal.namespace!r} is not among the namespaces "
                f"({', '.join(sorted(self._namespaces)) or 'there are none'})"
            )
        self._personal = f"{personal.namespace}:#" if personal.namespace else "#"
        self._has_personal = personal.enabled
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._resolve)
        for setting, name in _named(settings):
            try:
                self._resolve(DEFAULT_APP, name)
            except RequestError as error:
                raise ConfigError(f"{setting}: {name!r}: {error}") from None

    @property
    def namespaces(self) -> Collection[str]:
        """Their names."""
        return self._namespaces.keys()

    @property
    def options(self) -> Mapping[str, NamespaceSettings]:
        """Options of all namespaces, by name; those of channels without one have an empty name."""
        return {"": self._default, **self._namespaces}

    def adopt(self, other: "Channels") -> None:
        """Use the rules of the other from now on."""
        self._default = other._default
        self._namespaces = other._namespaces
        self._personal = other._personal
        self._has_personal = other._has_personal
        self._remembered.cache_clear()

    def has_namespace(self, name: str) -> bool:
        """Whether a namespace is configured, or built in."""
        return name in self._namespaces

    def resolve(self, app: str, name: str) -> ChannelSpec:
        """What the name means in this app.

        Raises RequestError: BAD_REQUEST for a name that breaks the rules above, UNKNOWN_CHANNEL for a namespace that is
        not configured.
        """
        return self._remembered(app, name)

    def personal(self, app: str, user: str) -> Channel | None:
        """The channel of one user: `#USER`, in its namespace if one is set.

        None when personal channels are off, for anonymous clients, and for user ids that do not fit into a name:
        too long, with `,` or `#`, or with anything but printable ASCII.
        """
        if not self._has_personal or not user or "," in user or "#" in user:
            return None
        name = self._personal + user
        return Channel(app, name) if NAME.fullmatch(name) else None

    def of_user(self, app: str, user: str) -> Channel:
        """As `personal`. Raises RequestError for a user without such a channel."""
        channel = self.personal(app, user)
        if channel is None:
            raise RequestError(NOT_AVAILABLE, f"user {user!r} has no personal channel", "personal.enabled")
        return channel

    def _resolve(self, app: str, name: str) -> ChannelSpec:
        if not NAME.fullmatch(name):
            raise RequestError(
                BAD_REQUEST, "a channel name has 1 to 255 characters of printable ASCII and no white space"
            )
        private = name.startswith("$")
        _, limited, _ = name.removeprefix("$").partition("#")
        namespace = namespace_of(name)
        if namespace is None:
            namespace, options = "", self._default
        elif namespace in self._namespaces:
            options = self._namespaces[namespace]
        else:
            setting = f"namespaces.{namespace}"
            raise RequestError(UNKNOWN_CHANNEL, f"namespace {namespace!r} is not configured ({setting})", setting)
        users = None
        if limited:
            # The id of anonymous clients is empty: it never counts as listed.
            users = frozenset(name.rpartition("#")[2].split(",")) - {""}
        history = _history(options)
        latest = _latest(options)
        stored = history is not None or latest is not None
        publishing = PublishOptions(history=history, latest=latest) if stored else NO_OPTIONS
        return ChannelSpec(
            Channel(app, name), namespace, options, private, users, history, latest, publishing, _presence(options)
        )


def namespace_of(name: str) -> str | None:
    """The part of a channel's name that may be a namespace; None if it has none. (`:a` has an empty one.)"""
    namespace, separator, _ = name.removeprefix("$").partition("#")[0].partition(":")
    return namespace if separator else None


def _opened(options: NamespaceSettings) -> NamespaceSettings:
    """Open to everybody, and recoverable unless `delivery` is set."""
    everybody = ("client", "anonymous")
    delivery = options.delivery if "delivery" in options.model_fields_set else "recoverable"
    return options.model_copy(
        update={
            "allow_subscribe": everybody,
            "allow_publish": everybody,
            "allow_history": everybody,
            "allow_presence": everybody,
            "presence": options.presence is not False,
            "delivery": delivery,
        }
    )


def _named(settings: ServerSettings) -> Iterator[tuple[str, str]]:
    """Channels that the settings name, after the setting."""
    others = {f"namespaces.{name}.": each for name, each in settings.socketio.namespaces.items()}
    for where, namespace in {"": settings.main_namespace, **others}.items():
        named = {f"events.{event}": channel for event, channel in namespace.events.items()}
        named["everyone"] = namespace.everyone
        named["own"] = namespace.own and namespace.own + str(UUID(int=0))
        for setting, channel in named.items():
            if channel:
                yield f"socketio.{where}{setting}", channel


def _announced(options: NamespaceSettings) -> NamespaceSettings:
    """With joins and leaves, unless `join_leave` is set: the demo page counts its visitors."""
    if "join_leave" in options.model_fields_set or not options.presence:
        return options
    return options.model_copy(update={"join_leave": "clients"})


def _presence(options: NamespaceSettings) -> PresenceRules | None:
    if options.join_leave != "off":
        return PresenceRules(options.join_leave, options.join_leave_limit, options.leave_grace)
    return PresenceRules() if options.presence else None


def _latest(options: NamespaceSettings) -> Latest | None:
    if options.delivery != "latest":
        return None
    return Latest(
        options.latest_key, options.latest_keys, options.latest_ttl, options.latest_interval, options.latest_size
    )


def _history(options: NamespaceSettings) -> Retention | None:
    size = options.history_size
    if options.delivery == "latest":
        return None
    if size is None:
        size = RECOVERABLE_SIZE if options.delivery == "recoverable" else 0
    return Retention(size, options.history_ttl, max(options.history_meta_ttl, options.history_ttl)) if size else None
