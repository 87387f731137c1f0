"""Who may call the API."""

import hmac
from collections.abc import Sequence

from pydantic import SecretStr

Headers = Sequence[tuple[bytes, bytes]]

_SCHEME = b"apikey "


class Access:
    """Checks API keys: `X-API-Key: KEY`, or `Authorization: apikey KEY`.

    There is no CORS: pages in browsers are not meant to call the API, and without a key they are refused.
    """

    def __init__(self, keys: Sequence[SecretStr], *, insecure: bool) -> None:
        """`insecure` lets everybody in who sends no Origin."""
        self.apply(keys, insecure=insecure)

    def apply(self, keys: Sequence[SecretStr], *, insecure: bool) -> None:
        """These keys count from now on."""
        self._keys = [key.get_secret_value().encode() for key in keys]
        self._insecure = insecure

    def refuses(self, headers: Headers) -> str:
        """Why a request is refused, empty when it is not. Header names are lower case (ASGI)."""
        sent = _sent(headers)
        # All keys are compared, in constant time each, so that the time tells nothing about them.
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
