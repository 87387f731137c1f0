"""What the nodes have written for publishers, and what follows from it. Without I/O."""

from typing import Any

from gateway.api.publications import Publications
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.posted_settings import UnknownSettings, read
from gateway.channels import Channels
from gateway.errors import BrokerUnavailable, ConfigError
from gateway.publisher.place import Place

# Seconds after which a publisher asks again, before the next publish: what nodes have written, and which generation of
# the server it is. Nodes write within a second (settings_board).
STALE_AFTER = 1.0
# Fields of the hash that nodes write.
DIGEST, DOCUMENT = "digest", "document"


class Known:
    """The settings of the nodes, as far as they matter to a publisher."""

    def __init__(self, digest: bytes, document: bytes, place: Place) -> None:
        """Raises UnknownSettings."""
        settings = read(document)
        self.digest = digest
        self.keys = Keys(place.home.prefix, settings.redis.partitions, place.target.database)
        self.channels = Channels(settings)
        self.publications = Publications(
            self.channels, settings.limits.message_size, settings.api.max_batch, place.payloads
        )
        # Whether the server counts as one that loses nothing.
        self.durable = settings.redis.durable


def known_of(fields: Any, place: Place) -> Known:
    """From the fields DIGEST and DOCUMENT. Raises BrokerUnavailable if there are none, or none that can be read."""
    digest, document = fields
    if digest is None or document is None:
        raise BrokerUnavailable(
            f"no node has written its settings under the prefix {place.home.prefix!r} in database "
            f"{place.target.database}: is redis.prefix the same as that of the nodes, is it their database, and has "
            "one been started?"
        )
    try:
        return Known(digest, document, place)
    except ConfigError as error:
        raise UnknownSettings(f"the settings that the nodes have written contradict themselves: {error}") from None
