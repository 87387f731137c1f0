"""Who may call the API."""

import asyncio
import hmac
import logging
from collections.abc import Sequence

from pydantic import SecretStr

from gateway.log import LogLimit

logger = logging.getLogger(__name__)

Headers = Sequence[tuple[bytes, bytes]]

# Seconds before a wrong key is answered, and how many such answers may wait, since each holds a connection. Others are
# answered at once with an error, and their connection is closed, so that each guess costs a handshake.
REFUSAL_DELAY = 1.0
MOST_DELAYED = 100
# Seconds between two lines of the log about wrong keys.
LOG_INTERVAL = 5.0

_SCHEME = b"apikey "


class Access:
    """Checks API keys: `X-API-Key: KEY`, or `Authorization: apikey KEY`.

    There is no CORS: pages in browsers should not call the API, and are refused without a key.
    """

    def __init__(self, keys: Sequence[SecretStr], *, insecure: bool) -> None:
        """`insecure` accepts all requests without an Origin header."""
        self.apply(keys, insecure=insecure)
        self._delayed = 0
        self._lines = LogLimit(LOG_INTERVAL)

    async def delay(self) -> bool:
        """Delay the answer to a wrong key; False if too many such answers wait already."""
        if (suppressed := self._lines.passes()) is not None:
            logger.warning("API requests refused: no key, or a wrong one", extra=suppressed)
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
            return "an API key is missing or wrong: X-API-Key (setting api.keys)"
        if any(name == b"origin" for name, _ in headers):
            return "requests of browsers need an API key (setting api.keys)"
        return ""


def _sent(headers: Headers) -> bytes:
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization" and value[: len(_SCHEME)].lower() == _SCHEME:
            return value[len(_SCHEME) :].strip()
    return b""
