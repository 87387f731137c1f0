"""What backends publish: a request becomes a publication, with all checks, whether it comes to a node or passes it."""

import time
from base64 import b64decode
from binascii import Error as Base64Error

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.json import encode

from gateway.api.request_shapes import BroadcastRequest, PublicationRequest
from gateway.api.result_shapes import ApiError, PublishResponse, PublishResult
from gateway.channels import Channels, ChannelSpec
from gateway.errors import BAD_REQUEST, NOT_AVAILABLE, RequestError
from gateway.hooks.payloads import Payloads
from gateway.json_text import TOO_DEEP, compact, is_too_deep
from gateway.messages import DEFAULT_APP, NO_OPTIONS, Kind, Publication, PublishOptions
from gateway.messages import PublishResult as Position
from gateway.protocols.payload import json_of

NO_POSITION = PublishResult()


class Content(msgspec.Struct, gc=False):
    """The data of a request, and what the models of namespaces say of it: each is asked once."""

    kind: Kind
    data: bytes
    # By namespace; None for data that fits. There are none without models.
    verdicts: dict[str, RequestError | None] | None = None


class Publications:
    """Makes publications from requests of backends, which may publish to every channel and ask no hook."""

    def __init__(
        self, channels: Channels, message_size: int, max_channels: int, payloads: Payloads | None = None
    ) -> None:
        """`message_size`: bytes of payload and tags at most. `max_channels`: of one broadcast.

        `payloads`: the models of namespaces, None without any.
        """
        self._channels = channels
        self.message_size = message_size
        self._max_channels = max_channels
        self._payloads = payloads

    def check_count(self, request: BroadcastRequest) -> None:
        """Raises RequestError for a broadcast to too many channels."""
        if len(request.channels) > self._max_channels:
            raise RequestError(BAD_REQUEST, f"more than {self._max_channels} channels (api.max_batch)")

    def content(self, request: PublicationRequest) -> Content:
        """What a request wants to publish. Raises RequestError."""
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
            return Content(Kind.JSON, spliceable(data))
        json = None if request.binary else json_of(data)
        return Content(Kind.BINARY, data) if json is None else Content(Kind.JSON, json)

    def to(self, name: object, request: PublicationRequest, content: Content) -> tuple[Publication, PublishOptions]:
        """The publication of a request's content to a channel, and how it is published. Raises RequestError."""
        if not isinstance(name, str):
            raise RequestError(BAD_REQUEST, "a channel name is a string")
        spec = self._channels.resolve(DEFAULT_APP, name)
        if self._payloads is not None:
            self._check_fit(self._payloads, spec.namespace, content)
        return _publication(request, spec, content.kind, content.data), _options(request, spec)

    @staticmethod
    def _check_fit(payloads: Payloads, namespace: str, content: Content) -> None:
        """Raises RequestError for content that does not fit the model of its namespace."""
        verdicts = content.verdicts
        if verdicts is None:
            verdicts = content.verdicts = {}
        if namespace not in verdicts:
            verdicts[namespace] = payloads.find_error(namespace, content.kind, content.data)
        if (error := verdicts[namespace]) is not None:
            raise error


def api_error(error: RequestError) -> ApiError:
    """The error in an answer, with its details: backends may see them."""
    return ApiError(error.error.code, str(error))


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
        event=request.event or "",
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


def result_of(position: Position) -> PublishResult:
    """The answer to a publish."""
    return PublishResult(position.offset, position.epoch) if position.offset else NO_POSITION


def response_of(outcome: PublishResult | ApiError) -> PublishResponse:
    """The answer for one channel of a broadcast."""
    return PublishResponse(error=outcome) if isinstance(outcome, ApiError) else PublishResponse(result=outcome)
