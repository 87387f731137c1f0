"""Latest values of channels, for backends."""

import time
from functools import partial

from gateway.api.history import publication
from gateway.api.outcome import outcome
from gateway.api.request_shapes import LatestRemoveRequest, LatestRequest
from gateway.api.result_shapes import EmptyResult, LatestResult
from gateway.channels import Channels, ChannelSpec
from gateway.errors import NOT_AVAILABLE, RequestError
from gateway.messages import DEFAULT_APP, REMOVED, Latest, Publication, PublishOptions
from gateway.node.messaging import Messaging


class LatestValues:
    """Reads and removes them through the messaging of the node. Every method raises RequestError."""

    def __init__(self, messaging: Messaging, channels: Channels) -> None:
        self._messaging = messaging
        self._channels = channels

    async def read(self, request: LatestRequest) -> LatestResult:
        spec, latest = self._with_latest(request.channel)
        page = await outcome(partial(self._messaging.values, spec.channel, latest))
        oldest = (time.time() - latest.ttl) * 1000
        found = sorted((each for each in page.publications if each.time >= oldest), key=lambda each: each.offset)
        return LatestResult([publication(each) for each in found])

    async def remove(self, request: LatestRemoveRequest) -> EmptyResult:
        spec, latest = self._with_latest(request.channel)
        removal = Publication(
            spec.channel,
            b"null",
            time=int(time.time() * 1000),
            tags={latest.tag: request.key or "", REMOVED: "true"},
        )
        await outcome(partial(self._messaging.publish, removal, PublishOptions(latest=latest)))
        return EmptyResult()

    def _with_latest(self, name: str) -> tuple[ChannelSpec, Latest]:
        spec = self._channels.resolve(DEFAULT_APP, name)
        if spec.latest is None:
            raise RequestError(NOT_AVAILABLE, f"channel {name!r} has no latest values (delivery)")
        return spec, spec.latest
