"""Settings that are read again while a node runs: which of them may change, and which have to be equal on all nodes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pydantic import SecretStr

from gateway.config.fields import Section
from gateway.config.settings import NamespaceSettings, ServerSettings
from gateway.errors import ConfigError

# All other settings belong to listeners, links and timers that exist since the start.
SECTIONS = ("auth", "origins", "limits", "channels", "namespaces", "personal")
API = ("keys", "insecure")

# How a channel is delivered. Its subscribers depend on it: after they joined a stream, they could not stay if the
# channel lost its stream.
DELIVERY = ("delivery", "history_size", "latest_key")
# These differ between machines of different sizes.
OF_ONE_NODE = {
    "waiting",
    "connections",
    "unauthenticated",
    "unauthenticated_per_address",
    "connections_per_user",
    "connections_per_address",
}

# Characters of a digest: enough to tell settings apart. Guesses of a secret can be tested against it, as against a
# token.
DIGEST = 8
DEMO = "demo"


def changes(old: Section, new: Section, prefix: str = "") -> Iterator[str]:
    """Dotted names of the settings in which two sections of the same kind differ."""
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Section):
            yield from changes(before, after, f"{prefix}{name}.")
        elif isinstance(before, dict):
            for key in sorted(before.keys() | after.keys()):
                one, other = before.get(key), after.get(key)
                if isinstance(one, Section) and isinstance(other, Section):
                    yield from changes(one, other, f"{prefix}{name}.{key}.")
                elif one != other:
                    yield f"{prefix}{name}.{key}"
        elif before != after:
            yield prefix + name


class Reloads:
    """Takes over those of fresh settings that may change while a node runs."""

    __slots__ = ("_known", "_opened", "settings")

    def __init__(self, settings: ServerSettings) -> None:
        """`settings`: those that the node was started with, and after each `take` those in force."""
        self.settings = settings
        # Namespaces by name (empty for channels without one), including removed ones: they may still have subscribers.
        self._known = {"": settings.channels, **settings.namespaces}
        opened = settings.no_auth or settings.demo
        self._opened = {"": settings.no_auth, DEMO: opened}
        if opened:
            # It exists without being configured.
            self._known.setdefault(DEMO, NamespaceSettings())

    def merged(self, fresh: ServerSettings) -> ServerSettings:
        """The settings in force, with those that may change taken from `fresh`."""
        update: dict[str, Any] = {name: getattr(fresh, name) for name in SECTIONS}
        update["channels"] = self._delivered_as_before("", fresh.channels)
        named = dict(fresh.namespaces)
        if self._opened[DEMO]:
            # It exists even if the settings no longer name it.
            unnamed = NamespaceSettings()
            if self._delivered_as_before(DEMO, unnamed) is not unnamed:
                named.setdefault(DEMO, unnamed)
        update["namespaces"] = {name: self._delivered_as_before(name, options) for name, options in named.items()}
        update["api"] = self.settings.api.model_copy(update={name: getattr(fresh.api, name) for name in API})
        return self.settings.model_copy(update=update)

    def take(self, merged: ServerSettings) -> None:
        """These are in force from now on."""
        self.settings = merged
        self._known |= {"": merged.channels, **merged.namespaces}

    def _delivered_as_before(self, name: str, fresh: NamespaceSettings) -> NamespaceSettings:
        known = self._known.get(name)
        opened = self._opened.get(name, False)
        if known is None or _delivery(known, opened=opened) == _delivery(fresh, opened=opened):
            return fresh
        kept: dict[str, Any] = {option: getattr(known, option) for option in DELIVERY}
        # Explicitly, since the default differs where channels are opened.
        kept["delivery"] = _delivered(known, opened=opened)
        return fresh.model_copy(update=kept)


def _delivered(options: NamespaceSettings, *, opened: bool) -> str:
    return "recoverable" if opened and "delivery" not in options.model_fields_set else options.delivery


def _delivery(options: NamespaceSettings, *, opened: bool) -> tuple[str, str]:
    """The part that must not change: whether there is a stream, and which tag holds the key of latest values."""
    delivered = _delivered(options, opened=opened)
    if delivered == "latest":
        return delivered, options.latest_key
    size = options.history_size
    return "stream" if size or (size is None and delivered == "recoverable") else "live", ""


def digests(settings: ServerSettings) -> dict[str, str]:
    """Short digests, by section, of the settings that have to be equal on all nodes of a cluster."""
    sections: dict[str, Any] = {name: getattr(settings, name).model_dump() for name in SECTIONS if name != "namespaces"}
    sections["limits"] = {name: value for name, value in sections["limits"].items() if name not in OF_ONE_NODE}
    sections["namespaces"] = {name: options.model_dump() for name, options in settings.namespaces.items()}
    sections["api"] = {name: getattr(settings.api, name) for name in API}
    sections["redis"] = {"durable": settings.redis.durable}
    sections |= {name: getattr(settings, name) for name in ("demo", "no_auth")}
    return {name: _digest(section) for name, section in sorted(sections.items())}


def _digest(section: Any) -> str:
    text = json.dumps(section, default=plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def plain(value: Any) -> str:
    """Settings that JSON does not know, as text: secrets, paths and networks."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class Source(NamedTuple):
    """Where a node reads its settings again."""

    # Raises ConfigError.
    read: Callable[[], ServerSettings]
    # What `read` would have returned when the node was started.
    first: ServerSettings
    # Adds what the parent process added: keys and origins of a cluster that was started without any.
    complete: Callable[[ServerSettings], ServerSettings] = lambda settings: settings


class Change(NamedTuple):
    """Settings to put in force, with the dotted names of those that change and of those that need a restart."""

    settings: ServerSettings
    changed: list[str]
    needs_restart: list[str]


class Reloading:
    """Reads the settings of a node again."""

    __slots__ = ("_running", "_source", "_sources")

    def __init__(self, settings: ServerSettings, source: Source | None) -> None:
        """`settings`: those that the node is started with."""
        self._source = source
        self._running = Reloads(settings)
        # Fresh sources are compared with earlier ones and not with the settings in force: a node that is one of several
        # has a few settings of its own, which the sources do not have.
        self._sources = Reloads(settings if source is None else source.first)

    def read(self) -> Change:
        """What is different now. Nothing has changed yet. Raises ConfigError."""
        if self._source is None:
            raise ConfigError("this node was not started from settings that it could read again")
        fresh = self._source.read()
        merged = self._running.merged(self._source.complete(fresh))
        waiting = changes(self._sources.merged(fresh), fresh)
        return Change(merged, list(changes(self._running.settings, merged)), list(waiting))

    def take(self, change: Change) -> None:
        """The change is in force from now on."""
        self._running.take(change.settings)
        # The sources only need to remember how channels were delivered.
        self._sources.take(self._sources.merged(change.settings))
