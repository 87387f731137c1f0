"""Publish and broadcast: the part of the API that has to be fast."""

import asyncio
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from functools import cache, partial

from msgspec import UNSET, Raw, UnsetType
from msgspec.json import encode

from gateway.api.outcome import outcome
from gateway.api.request_shapes import BroadcastRequest, PublicationRequest, PublishRequest
from gateway.api.result_shapes import ApiError, BroadcastResult, PublishResponse, PublishResult
from gateway.channels import Channels, ChannelSpec
from gateway.errors import BAD_REQUEST, NOT_AVAILABLE, RequestError
from gateway.hooks.payloads import Payloads
from gateway.json_text import TOO_DEEP, compact, is_too_deep, mended
from gateway.messages import DEFAULT_APP, NO_OPTIONS, Kind, Publication, PublishOptions
from gateway.messages import PublishResult as Position
from gateway.node.messaging import Messaging
from gateway.protocols.payload import checked_json

NO_POSITION = PublishResult()

# Publishes of one request that are started in one turn of the event loop, about 2 ms.
SLICE = 100
# Bytes of one request in flight to the broker; above it the rest waits. They share redis.pending_limit with others.
UNDER_WAY = 1024 * 1024

Done = Callable[[PublishResult | ApiError], None]


def api_error(error: RequestError) -> ApiError:
    """The error in an answer, with its details: backends may see them."""
    return ApiError(error.error.code, str(error))


class Publisher:
    """Publishes for backends, which may publish to every channel."""

    def __init__(
        self,
        messaging: Messaging,
        channels: Channels,
        message_size: int,
        max_channels: int,
        payloads: Payloads | None = None,
    ) -> None:
        """`message_size`: bytes of payload and tags at most. `payloads`: the models of namespaces, None without any."""
        self._messaging = messaging
        self._channels = channels
        self.message_size = message_size
        self._max_channels = max_channels
        self._payloads = payloads

    def start(self, request: PublishRequest, done: Done) -> int:
        """Publish; `done` gets the result once the broker has accepted it, or the error. Keeps the order of calls.

        Returns the bytes that are in flight.
        """
        try:
            kind, data = self._payload(request)
            self._send(request, self._fitting(request.channel, kind, data), kind, data, done)
        except RequestError as error:
            done(api_error(error))
            return 0
        return len(data)

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Publish to one channel. Raises RequestError."""
        kind, data = self._payload(request)
        spec = self._fitting(request.channel, kind, data)
        publication, options = _publication(request, spec, kind, data), _options(request, spec)
        position = await outcome(partial(self._messaging.publish, publication, options))
        return _result(position)

    async def broadcast(self, request: BroadcastRequest) -> BroadcastResult:
        """Publish the same to several channels. Raises RequestError for an error that concerns all of them."""
        if len(request.channels) > self._max_channels:
            raise RequestError(BAD_REQUEST, f"more than {self._max_channels} channels (api.max_batch)")
        kind, data = self._payload(request)
        # Each namespace has one verdict.
        find_error = cache(partial(self._find_error, kind=kind, data=data))
        outcomes = Outcomes(len(request.channels))
        for index, name in enumerate(request.channels):
            done = outcomes.slot(index)
            try:
                if not isinstance(name, str):
                    raise RequestError(BAD_REQUEST, "a channel name is a string")
                spec = self._channels.resolve(DEFAULT_APP, name)
                misfit = find_error(spec.namespace)
                if misfit is None:
                    self._send(request, spec, kind, data, done)
                else:
                    done(api_error(misfit))
            except RequestError as error:
                done(api_error(error))
            await outcomes.pace(index, len(data))
        return BroadcastResult([_response(outcome) for outcome in await outcomes.wait()])

    def _fitting(self, name: str, kind: Kind, data: bytes) -> ChannelSpec:
        """What the channel's name means. Raises RequestError, also for a payload that does not fit."""
        spec = self._channels.resolve(DEFAULT_APP, name)
        if self._payloads is not None:
            self._payloads.decode(spec.namespace, kind, data)
        return spec

    def _find_error(self, namespace: str, kind: Kind, data: bytes) -> RequestError | None:
        return self._payloads.find_error(namespace, kind, data) if self._payloads is not None else None

    def _send(self, request: PublicationRequest, spec: ChannelSpec, kind: Kind, data: bytes, done: Done) -> None:
        def published(outcome: Position | RequestError) -> None:
            done(api_error(outcome) if isinstance(outcome, RequestError) else _result(outcome))

        self._messaging.publish(_publication(request, spec, kind, data), _options(request, spec), published)

    def _payload(self, request: PublicationRequest) -> tuple[Kind, bytes]:
        base64 = request.b64data
        if base64:
            if given(request.data):
                raise RequestError(BAD_REQUEST, "give one of data and b64data")
            data = decoded(base64, "b64data")
        elif request.data is UNSET:
            raise RequestError(BAD_REQUEST, "give one of data and b64data")
        elif request.binary:
            raise RequestError(BAD_REQUEST, "binary is for b64data")
        else:
            data = bytes(request.data)
        check_size(len(data) + (len(encode(request.tags)) if request.tags else 0), self.message_size)
        if not base64:
            return Kind.JSON, spliceable(data)
        json = None if request.binary else json_of(data)
        return (Kind.BINARY, data) if json is None else (Kind.JSON, json)


class Outcomes:
    """Collects the outcomes of publishes that are in flight together."""

    def __init__(self, count: int) -> None:
        self._outcomes: list[PublishResult | ApiError | None] = [None] * count
        self._under_way = 0
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def slot(self, index: int) -> Done:
        """What to call with the outcome of one publish."""
        self._under_way += 1

        def done(outcome: PublishResult | ApiError) -> None:
            self._outcomes[index] = outcome
            self._under_way -= 1
            if not self._under_way and self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

        return done

    async def pace(self, index: int, size: int) -> None:
        """Await this after each start, of `size` bytes: others get their turn, and the broker is not flooded."""
        self._bytes += size
        if self._bytes > UNDER_WAY:
            await self._settle()
            self._bytes = 0
        elif index % SLICE == SLICE - 1:
            await asyncio.sleep(0)

    async def wait(self) -> Sequence[PublishResult | ApiError]:
        """All outcomes, in the order of their slots."""
        await self._settle()
        return [outcome for outcome in self._outcomes if outcome is not None]

    async def _settle(self) -> None:
        if self._under_way:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


def decoded(text: str, name: str) -> bytes:
    """The bytes of a field in base64. Raises RequestError.

    Line breaks in it are ignored, as Go does: Ruby's Base64.encode64 and `base64` of a shell write them.
    """
    try:
        return b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (Base64Error, ValueError) as error:
        raise RequestError(BAD_REQUEST, f"{name} is not base64: {error}") from None


def given(value: Raw | UnsetType) -> bytes:
    """The JSON of an optional field; empty if it is absent or null."""
    text = b"" if value is UNSET else bytes(value)
    return b"" if text == b"null" else text


def spliceable(data: bytes) -> bytes:
    """The JSON of a field, whose body was checked to be JSON in UTF-8. Raises RequestError."""
    if is_too_deep(data):
        raise RequestError(BAD_REQUEST, TOO_DEEP)
    return compact(data)


def json_of(data: bytes) -> bytes | None:
    """Bytes as JSON that can be spliced; None if they are none."""
    try:
        return checked_json(mended(data))
    except RequestError:
        return None


def check_size(size: int, limit: int) -> None:
    """Raises RequestError if a publication is too large."""
    if size > limit:
        raise RequestError(BAD_REQUEST, f"{size} bytes to deliver, {limit} are allowed (limits.message_size)")


def _publication(request: PublicationRequest, spec: ChannelSpec, kind: Kind, data: bytes) -> Publication:
    return Publication(
        spec.channel,
        data,
        kind,
        time=int(time.time() * 1000),
        tags=_tags(request),
        exclude_client=request.exclude_client or "",
        version=request.version or 0,
    )


def _tags(request: PublicationRequest) -> dict[str, str] | None:
    """The tags; null is an empty text, as Go decodes it."""
    if request.tags is None:
        return None
    return {name: text or "" for name, text in request.tags.items()}


def _options(request: PublicationRequest, spec: ChannelSpec) -> PublishOptions:
    history = None if request.skip_history else spec.history
    latest = None if request.skip_history else spec.latest
    if request.version and history is None:
        raise RequestError(NOT_AVAILABLE, "field version, in a channel without history (delivery, history_size)")
    if request.delta and not spec.options.delta:
        raise RequestError(NOT_AVAILABLE, "field delta, in a channel without deltas (delta)")
    if request.idempotency_key or request.version_epoch:
        return PublishOptions(
            request.idempotency_key or "", history=history, latest=latest, version_epoch=request.version_epoch or ""
        )
    return NO_OPTIONS if request.skip_history else spec.publishing


def _result(position: Position) -> PublishResult:
    return PublishResult(position.offset, position.epoch) if position.offset else NO_POSITION


def _response(outcome: PublishResult | ApiError) -> PublishResponse:
    return PublishResponse(error=outcome) if isinstance(outcome, ApiError) else PublishResponse(result=outcome)
