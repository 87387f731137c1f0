"""Which Redis a publisher uses, and how patient it is: what both publishers have in common."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gateway.broker.redis.keyspace import Keys
from gateway.client.tries import Tries
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.errors import ConfigError
from gateway.hooks.hooks import Hooks
from gateway.hooks.payloads import Payloads

logger = logging.getLogger(__name__)

# By field of the settings: the argument or the variable that gives it.
_NAMES = {
    "url": "the redis_url of the publisher, or GATEWAY_REDIS__URL",
    "prefix": "the prefix of the publisher, or GATEWAY_REDIS__PREFIX",
    "tls_ca_file": "the tls_ca_file of the publisher, or GATEWAY_REDIS__TLS_CA_FILE",
}


class Place:
    """The Redis of a publisher. (No tuple, whose repr would show the password.)"""

    def __init__(self, settings: RedisSettings, timeout: float, retries: int, hooks: Hooks | None) -> None:
        assert settings.url is not None
        self.settings = settings
        self.target = Target.of(settings.url.get_secret_value())
        self.name = f"Redis at {self.target.name}"
        self.retries = retries
        self._timeout = timeout
        # Of what exists once per installation; those of channels depend on redis.partitions, which nodes tell.
        self.home = Keys(settings.prefix, 1, self.target.database)
        # The models of payloads; None without any.
        self.payloads = Payloads(hooks.payloads, _failed) if hooks is not None and hooks.payloads else None

    def tries(self) -> Tries:
        """Those of a new call."""
        return Tries(self.name, self._timeout, self.retries)


def _failed(model: str) -> None:
    logger.exception("the payload model %s failed", model)


def place_of(
    url: str | None, prefix: str | None, tls_ca_file: str | None, timeout: float, retries: int, hooks: Hooks | None
) -> Place:
    """What is not given is in the variables of the gateway's settings. Raises ConfigError."""
    given: Mapping[str, str | None] = {"url": url, "prefix": prefix, "tls_ca_file": tls_ca_file}
    values: dict[str, Any] = {}
    for field, value in given.items():
        value = os.environ.get(f"GATEWAY_REDIS__{field.upper()}") if value is None else value
        if value is not None:
            values[field] = value
    if not values.get("url"):
        raise ConfigError("where is Redis? Give the publisher a redis_url, or set GATEWAY_REDIS__URL")
    try:
        settings = RedisSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigError(f"{_NAMES[str(first['loc'][0])]}: {first['msg']}") from None
    return Place(settings, timeout, retries, hooks)
