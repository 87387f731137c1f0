"""Publishes rows of an outbox over the HTTP API."""

from collections.abc import Sequence

from gateway.api.request_shapes import PublishRequest
from gateway.api.result_shapes import ApiError, PublishResult
from gateway.client import AsyncClient, Refused
from gateway.client.commands import Command
from gateway.errors import INTERNAL, TOO_MANY_REQUESTS
from gateway.outbox.relay import Refusal

# Others come from something on the way, such as 404 for a wrong URL, and say nothing about a row.
CODES = {*range(100, 200), 413}
TEMPORARY = {INTERNAL.code, TOO_MANY_REQUESTS.code}


class HttpSender:
    """A Sender, with one request for all."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def send(self, requests: Sequence[PublishRequest]) -> Sequence[Refusal | None]:
        """See Sender."""
        try:
            result = await self._client.batch(Command("publish", each, PublishResult) for each in requests)
        except Refused as error:
            if error.code not in CODES:
                raise
            if len(requests) == 1:
                return [Refusal(str(error), error.code in TEMPORARY)]
            # Refused as a whole, because of one of them.
            return [outcome for each in requests for outcome in await self.send([each])]
        return [_refusal(each.error) for each in result.replies]

    async def aclose(self) -> None:
        """See Sender."""
        await self._client.aclose()


def _refusal(error: ApiError | None) -> Refusal | None:
    return None if error is None else Refusal(f"{error.code} {error.message}", error.code in TEMPORARY)
