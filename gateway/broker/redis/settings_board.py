"""Keeps the settings of this node in Redis, for publishers that are no nodes."""

from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.lua import SETTINGS
from gateway.broker.redis.posted_settings import posted
from gateway.config.settings import ServerSettings
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable

INTERVAL = 1.0  # seconds between two renewals
GONE = 10  # seconds without one, after which another node writes its own


class SettingsBoard:
    """Writes the settings in force when they are new, and again when Redis has lost them.

    While nodes disagree, the settings count that came into force last (start or reload) on a node that lives.
    """

    def __init__(self, client: Any, keys: Keys, uid: NodeId, settings: Callable[[], ServerSettings]) -> None:
        """`settings` returns those in force: the same object until a reload."""
        self._key = keys.settings()
        self._uid = uid
        self._settings = settings
        self._script = client.register_script(SETTINGS.text)
        self._known: ServerSettings | None = None
        # Of the settings that this node has written last; see the script.
        self._number = b"0"

    async def renew(self) -> None:
        """Raises BrokerUnavailable."""
        settings = self._settings()
        if settings is not self._known:
            self._posted = posted(settings)
            self._known, self._number = settings, b"0"
        try:
            self._number = await self._script(
                keys=[self._key], args=[self._uid, self._number, GONE, self._posted.digest, self._posted.document]
            )
        except (RedisError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"the settings for publishers were not written: {error}") from None
