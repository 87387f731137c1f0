"""Which requests may be sent again when nobody knows whether they were carried out."""

from typing import Any, TypeVar, cast
from uuid import uuid4

import msgspec

from gateway.api.request_shapes import ApiRequest, BatchCommand, BatchRequest, PublicationRequest, ReloadRequest

Q = TypeVar("Q", bound=ApiRequest | BatchRequest)


def with_keys(request: Q) -> Q:
    """The request with an idempotency key for each publication that has none; an empty key stays."""
    if isinstance(request, BatchRequest):
        return msgspec.structs.replace(request, commands=[_keyed(each) for each in request.commands])
    if isinstance(request, PublicationRequest) and request.idempotency_key is None:
        return cast(Q, msgspec.structs.replace(request, idempotency_key=uuid4().hex))
    return request


def is_repeatable(request: ApiRequest | BatchRequest) -> bool:
    """Whether carrying it out twice has the effect and the answer of once."""
    if isinstance(request, BatchRequest):
        return all(is_repeatable(_only(each)[1]) for each in request.commands)
    if isinstance(request, PublicationRequest):
        return bool(request.idempotency_key)
    # The second answer would say that nothing has changed.
    return not isinstance(request, ReloadRequest)


def _keyed(command: BatchCommand) -> BatchCommand:
    name, request = _only(command)
    entry: dict[str, Any] = {name: with_keys(request)}
    return BatchCommand(**entry)


def _only(command: BatchCommand) -> tuple[str, ApiRequest]:
    """The request in an entry of a batch, and the name of its method."""
    return next((name, request) for name, request in msgspec.structs.asdict(command).items() if request is not None)
