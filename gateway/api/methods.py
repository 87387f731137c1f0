"""The methods of the API by name: from JSON to a request of the right shape, and from there to a result."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.errors import BAD_REQUEST, INTERNAL, METHOD_NOT_FOUND, NOT_AVAILABLE, RequestError
from gateway.json_text import TOO_DEEP, mended

logger = logging.getLogger(__name__)

DOCUMENT = "/api/openapi.json"

# Methods of Centrifugo 6.9 that this version has no use for.
UNSERVED = frozenset(
    {
        *("rpc", "connections", "shared_poll_publish"),
        *("map_publish", "map_remove", "map_read_state", "map_read_stream", "map_stats", "map_clear"),
        *("update_user_status", "get_user_status", "delete_user_status", "block_user", "unblock_user"),
        *("revoke_token", "invalidate_user_tokens"),
        *("device_register", "device_update", "device_remove", "device_list"),
        *("device_topic_list", "device_topic_update", "user_topic_list", "user_topic_update"),
        *("send_push_notification", "update_push_status", "cancel_push"),
    }
)


class Method(NamedTuple):
    """A method of the API: the shapes of its request and its result, and the function that carries it out."""

    request: type[Any]
    result: type[Any]
    call: Callable[[Any], Awaitable[Any]]
    # From JSON to the argument of `call`; None for the decoder of the shape. Raises RequestError.
    decode: Callable[[bytes], Any] | None = None


class Methods:
    """Decodes and carries out requests by the name of their method."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.described = methods
        self._decode = {name: each.decode or decoder_of(each.request) for name, each in methods.items()}

    def check(self, name: str) -> None:
        """Raises RequestError for a name that is not served."""
        if name in self._decode:
            return
        if name in UNSERVED:
            raise RequestError(NOT_AVAILABLE, f"method {name}")
        raise RequestError(METHOD_NOT_FOUND, f"no such method; see {DOCUMENT}")

    def decode(self, name: str, body: bytes) -> Any:
        """The request. Raises RequestError, also for a name that is not served."""
        self.check(name)
        return self._decode[name](body)

    async def call(self, name: str, request: Any) -> Any:
        """The result. Raises RequestError."""
        try:
            return await self.described[name].call(request)
        except RequestError:
            raise
        except Exception as error:
            logger.exception("internal error in API method %s", name)
            raise RequestError(INTERNAL) from error


def decoder_of(shape: Any) -> Callable[[bytes], Any]:
    """A function from JSON to this type, which raises RequestError(107) for what is not of it."""
    decoder = msgspec.json.Decoder(shape)
    return lambda body: decoded(decoder.decode, body)


def decoded(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """What a decoder of msgspec makes of the body. Raises RequestError(107)."""
    try:
        # The decoder does not check embedded values, which may not be valid UTF-8.
        body.decode()
        try:
            return decode(body)
        except msgspec.DecodeError:
            whole = mended(body)
            if whole == body:
                raise
            return decode(whole)
    except RecursionError:
        raise RequestError(BAD_REQUEST, TOO_DEEP) from None
    except ValueError as error:
        # Of the decoder, or of text that is not UTF-8.
        raise RequestError(BAD_REQUEST, str(error)) from None
