"""One call: what is sent, when it is sent again, and what the answer means. Without I/O."""

import time
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.api.result_shapes import ApiError, BatchResult
from gateway.client.commands import Command
from gateway.client.failures import ClientError, Refused, Unauthorized
from gateway.client.repeats import is_repeatable, with_keys
from gateway.client.tries import Pause, Tries
from gateway.errors import INTERNAL

R = TypeVar("R")

# Errors have an HTTP status of their own, and are the body.
ERROR_MODE = {"X-Centrifugo-Error-Mode": "transport"}


class _Answer(msgspec.Struct, frozen=True):
    """All that the body of an answer may have. Refusals before the method is looked at are in `error`."""

    result: Raw | UnsetType = UNSET
    replies: Raw | UnsetType = UNSET
    error: ApiError | None = None
    code: int | None = None
    message: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Answer).decode


class Call(Generic[R]):
    """A command on its way. Ask `left` before each try, and tell what became of it: `failed` or `answered`."""

    def __init__(
        self, command: Command[R], name: str, timeout: float, retries: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`name`: of the gateway, for messages. `timeout`: seconds for all tries together."""
        # A key that serves no second try would only take memory of Redis.
        request = with_keys(command.request) if retries else command.request
        self.path = f"/api/{command.method}"
        self.body = _encode(request)
        self._result = command.result
        self._is_repeatable = is_repeatable(request)
        self._name = name
        self._tries = Tries(name, timeout, retries, clock)

    @property
    def left(self) -> float:
        """Seconds that are left, above 0."""
        return self._tries.left

    def failed(self, error: Exception, *, was_sent: bool, was_late: bool) -> Pause:
        """There was no answer. `was_sent`: perhaps, at least in part. Raises Unavailable if that was the last try."""
        if was_sent:
            self._tries.is_unknown = True
            reason = f"no answer within {self._tries.timeout:g} s" if was_late else f"the connection broke: {error}"
        else:
            reason = f"no connection: {error}"
        return self._tries.again(reason, error, may_repeat=self._is_repeatable or not was_sent)

    def answered(self, status: int, body: bytes) -> R | Pause:
        """The result, or that it is tried again. Raises ClientError."""
        answer = _read(body)
        error = _error(answer)
        if status == 401:
            raise Unauthorized(f"{self._name}: {error.message if error else 'it wants an API key'}")
        if status >= 500 or status == 429 or (error is not None and error.code == INTERNAL.code):
            # A proxy that answers for a gateway does not say what became of the request.
            self._tries.is_unknown |= status != 429
            reason = f"{error.code} {error.message}" if error else f"it answered {status}"
            return self._tries.again(reason, None, may_repeat=self._is_repeatable)
        if error is not None:
            raise Refused(error.code, error.message)
        if status == 413:
            # A gateway would say so in JSON.
            raise Refused(status, "the request is too large for a proxy on the way")
        result = self._decoded(answer, body) if status == 200 and answer is not None else None
        if result is None:
            self._no_gateway(status)
        return result

    def _decoded(self, answer: _Answer, body: bytes) -> R | None:
        """None without a result. Raises ClientError."""
        # A batch answers at the top level.
        given = answer.replies if self._result is BatchResult else answer.result
        if given is UNSET:
            return None
        try:
            return msgspec.json.decode(body if self._result is BatchResult else given, type=self._result)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ClientError(f"{self._name}: the answer to {self.path} cannot be read: {error}") from None

    def _no_gateway(self, status: int) -> NoReturn:
        raise ClientError(
            f"{self._name} answered {status} to {self.path}: it is not a gateway, or api.public is off there"
        )


def _read(body: bytes) -> _Answer | None:
    try:
        return _decode(body)
    except (ValueError, RecursionError):
        return None


def _error(answer: _Answer | None) -> ApiError | None:
    if answer is None or answer.error is not None or answer.code is None:
        return answer.error if answer is not None else None
    return ApiError(answer.code, answer.message)
