"""The settings that publishers beside the nodes need, as nodes write them to Redis. Pure functions."""

import hashlib
from typing import Any, NamedTuple

import msgspec

from gateway.channels import Channels
from gateway.config.settings import NamespaceSettings, ServerSettings
from gateway.errors import BrokerUnavailable

# Another number means that an option has another meaning: versions that do not know it must not publish.
FORMAT = 1
# Options of a namespace that say how to publish. All others are for subscribers.
OPTIONS = frozenset(
    {
        *("delivery", "history_size", "history_ttl", "history_meta_ttl", "delta"),
        *("latest_key", "latest_keys", "latest_ttl", "latest_size"),
    }
)
# Other settings, by section.
SECTIONS = {
    "personal": {"enabled", "namespace"},
    "limits": {"message_size"},
    "api": {"max_batch"},
    "redis": {"partitions", "durable"},
}


class UnknownSettings(BrokerUnavailable):
    """The nodes have written what this version cannot read: it must not go on with what it knew before."""


class Posted(NamedTuple):
    """A document for publishers; another digest means other settings."""

    document: bytes
    digest: str


def posted(settings: ServerSettings) -> Posted:
    """Every value is in the document, because defaults may differ between versions."""
    options = {name: _of_namespace(each) for name, each in Channels(settings).options.items()}
    sections = {name: getattr(settings, name).model_dump(include=fields) for name, fields in SECTIONS.items()}
    content = {"format": FORMAT, "channels": options.pop(""), "namespaces": options, **sections}
    document = msgspec.json.encode(content, order="sorted")
    return Posted(document, hashlib.sha256(document).hexdigest())


def read(document: bytes) -> ServerSettings:
    """The settings in a document; those that are not in it have their defaults. Raises UnknownSettings."""
    try:
        content = msgspec.json.decode(document, type=dict[str, Any])
        if content.get("format") != FORMAT:
            raise UnknownSettings(
                f"the nodes have written their settings in format {content.get('format')!r}, this version of the "
                f"gateway reads {FORMAT}: publish with the version of the nodes"
            )
        sections = {name: _known(content[name], fields) for name, fields in SECTIONS.items()}
        namespaces = {name: _known(options, OPTIONS) for name, options in content["namespaces"].items()}
        channels = _known(content["channels"], OPTIONS)
        return ServerSettings.model_validate({"channels": channels, "namespaces": namespaces, **sections})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownSettings(f"the settings that the nodes have written cannot be read: {error}") from None


def _of_namespace(options: NamespaceSettings) -> dict[str, Any]:
    return options.model_dump(include=set(OPTIONS))


def _known(values: dict[str, Any], names: frozenset[str] | set[str]) -> dict[str, Any]:
    """Without what a newer version has added."""
    return {name: value for name, value in values.items() if name in names}
