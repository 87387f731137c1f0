"""Who may call the API."""

import asyncio
import hmac
import logging
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import SecretStr

from gateway.log import LONGEST_CHOSEN, LogLimit, cut

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Headers = Sequence[tuple[bytes, bytes]]

# Seconds before a wrong key is answered, and how many such answers may wait, since each holds a connection. Others are
# answered at once with an error, and their connection is closed, so that each guess costs a handshake.
REFUSAL_DELAY = 1.0
MOST_DELAYED = 100
# Seconds between two lines of the log about the same refusal.
LOG_INTERVAL = 5.0

_SCHEME = b"apikey "

WRONG_KEY = "an API key is missing or wrong: X-API-Key: KEY, or Authorization: apikey KEY (setting api.keys)"
BROWSER = "requests of browsers need an API key (setting api.keys)"


class Access:
    """Checks API keys: `X-API-Key: KEY`, or `Authorization: apikey KEY`.

    There is no CORS: pages in browsers should not call the API, and are refused without a key.
    """

    def __init__(self, keys: Sequence[SecretStr], *, insecure: bool, address: Callable[[Scope], str]) -> None:
        """`insecure` accepts all requests without an Origin header; `address` tells that of a client, for the log."""
        self.apply(keys, insecure=insecure)
        self._address = address
        self._delayed = 0
        self._lines = LogLimit(LOG_INTERVAL)

    async def delay(self, scope: Scope, reason: str) -> bool:
        """Delay the answer to a request that is refused; False if too many such answers wait already.

        `reason` is that of `refuses`, for the log.
        """
        address = self._address(scope)
        if (suppressed := self._lines.passes(reason, address)) is not None:
            origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
            origin = {"origin": cut(",".join(origins), LONGEST_CHOSEN)} if origins else {}
            logger.warning("API request refused", extra={"reason": reason, **origin, "address": address, **suppressed})
        if self._delayed >= MOST_DELAYED:
            return False
        self._delayed += 1
        try:
            await asyncio.sleep(REFUSAL_DELAY)
        finally:
            self._delayed -= 1
        return True

    def apply(self, keys: Sequence[SecretStr], *, insecure: bool) -> None:
        """These keys count from now on."""
        self._keys = [key.get_secret_value().encode() for key in keys]
        self._insecure = insecure

    def refuses(self, headers: Headers) -> str:
        """Why a request is refused, empty if it is accepted. Header names are lower case (ASGI)."""
        sent = _sent(headers)
        # All keys are compared, each in constant time, so that the time reveals nothing about them.
        if sum(hmac.compare_digest(sent, key) for key in self._keys):
            return ""
        if not self._insecure:
            return WRONG_KEY
        if any(name == b"origin" for name, _ in headers):
            return BROWSER
        return ""


def _sent(headers: Headers) -> bytes:
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization" and value[: len(_SCHEME)].lower() == _SCHEME:
            return value[len(_SCHEME) :].strip()
    return b""
