"""One call of a publisher: what it publishes, when it tries again, and what it returns. Without I/O."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from gateway.api.methods import decoder_of
from gateway.api.publications import api_error, response_of, result_of
from gateway.api.request_shapes import BroadcastRequest, PublicationRequest, PublishRequest
from gateway.api.result_shapes import BroadcastResult, PublishResult
from gateway.client import commands
from gateway.client.commands import Command
from gateway.client.failures import Refused, Unavailable
from gateway.client.repeats import is_repeatable, with_keys
from gateway.client.tries import Pause, Tries
from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.messages import DEFAULT_APP, Channel, Publication, PublishOptions
from gateway.messages import PublishResult as Position
from gateway.publisher.known import Known

R = TypeVar("R")
S = TypeVar("S")

# Publishes of one call that are sent together at most, and their bytes.
AT_ONCE = 100
BYTES_AT_ONCE = 1024 * 1024

# The method of `to_user`, and what is put before the user in its request.
TO_USER, OF_USER = "to_user", "#"

_encode = msgspec.json.Encoder().encode
_DECODERS = {PublishRequest: decoder_of(PublishRequest), BroadcastRequest: decoder_of(BroadcastRequest)}


class Item(NamedTuple):
    """The publication of one of a job's channels."""

    number: int
    publication: Publication
    options: PublishOptions


def by_shard(items: Iterable[Item], shard_of: Callable[[Channel], S]) -> dict[S, list[Item]]:
    """The items of each shard, in their order."""
    groups: dict[S, list[Item]] = {}
    for item in items:
        groups.setdefault(shard_of(item.publication.channel), []).append(item)
    return groups


def to_user(
    user: str,
    data: Any,
    *,
    event: str = "",
    tags: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
    skip_history: bool = False,
) -> Command[PublishResult]:
    """Publish to the personal channel of a user, as `publish`. Raises TypeError if that is no str."""
    # (None would become a user named None.)
    if not isinstance(user, str):
        raise TypeError(f"user is {type(user).__name__}, expected str")
    # Which channel it is depends on the nodes' settings: see Job.
    command = commands.publish(
        f"{OF_USER}{user}",
        data,
        event=event,
        tags=tags,
        idempotency_key=idempotency_key,
        skip_history=skip_history,
    )
    return command._replace(method=TO_USER)


class Job(Generic[R]):
    """A command on its way. Each try sends all `parts`, tells what became of them, and asks `after`."""

    def __init__(self, command: Command[R], tries: Tries, *, retries: int) -> None:
        """`command`: publish, broadcast or to_user. Raises Refused."""
        # A key that serves no second try would only take memory of Redis.
        request = with_keys(command.request) if retries else command.request
        try:
            # The same shapes, with the same bounds, as over HTTP.
            self._request: PublicationRequest = _DECODERS[type(request)](_encode(request))
        except RequestError as error:
            raise _refused(error) from None
        self._is_repeatable = is_repeatable(request)
        self._user: str | None = None
        self.tries = tries
        match self._request:
            case BroadcastRequest(channels=channels):
                self._names = channels
            case PublishRequest(channel=channel):
                self._names = [channel]
                if command.method == TO_USER:
                    self._user = channel.removeprefix(OF_USER)
        self._outcomes: list[Position | RequestError | None] = [None] * len(self._names)

    def parts(self, known: Known) -> Iterator[list[Item]]:
        """What has to be published now, to be sent part by part. Raises Refused."""
        request = self._request
        publications = known.publications
        try:
            if isinstance(request, BroadcastRequest):
                publications.check_count(request)
            elif self._user is not None:
                self._names = [known.channels.of_user(DEFAULT_APP, self._user).name]
            content = publications.content(request)
        except RequestError as error:
            raise _refused(error) from None
        part: list[Item] = []
        for index, name in enumerate(self._names):
            if self._outcomes[index] is not None:
                continue
            try:
                part.append(Item(index, *publications.to(name, request, content)))
            except RequestError as error:
                self._outcomes[index] = error.detach()
            if len(part) == AT_ONCE or len(part) * len(content.data) > BYTES_AT_ONCE:
                yield part
                part = []
        if part:
            yield part

    def settle(self, item: Item, outcome: Position | RequestError) -> None:
        """This became of it."""
        self._outcomes[item.number] = outcome

    def fail(self, error: RequestError) -> None:
        """The rest of this try was not sent."""
        self._outcomes = [error if outcome is None else outcome for outcome in self._outcomes]

    def after(self) -> Pause | None:
        """After a try: None if `result` has all that will come, or when to try again. Raises Unavailable."""
        # Of the way to Redis. (A model that fails is another error 100.)
        failed = [each for each in self._outcomes if isinstance(each, BrokerUnavailable | OutcomeUnknown)]
        if not failed:
            return None
        self.tries.is_unknown |= any(isinstance(each, OutcomeUnknown) for each in failed)
        first = failed[0]
        try:
            pause = self.tries.again(
                first.detail.removeprefix(f"{self.tries.name}: "), first, may_repeat=any(map(self._may_repeat, failed))
            )
        except Unavailable:
            if len(failed) == len(self._outcomes):
                raise
            return None
        self._outcomes = [None if self._may_repeat(each) else each for each in self._outcomes]
        return pause

    def _may_repeat(self, outcome: Position | RequestError | None) -> bool:
        return isinstance(outcome, BrokerUnavailable) or (self._is_repeatable and isinstance(outcome, OutcomeUnknown))

    def result(self) -> R:
        """What the call returns. Raises Refused."""
        if isinstance(self._request, BroadcastRequest):
            responses = [
                response_of(api_error(each) if isinstance(each, RequestError) else result_of(each))
                for each in self._outcomes
                if each is not None
            ]
            return cast(R, BroadcastResult(responses))
        (outcome,) = self._outcomes
        assert outcome is not None
        if isinstance(outcome, RequestError):
            raise _refused(outcome)
        return cast(R, result_of(outcome))


def _refused(error: RequestError) -> Refused:
    described = api_error(error)
    return Refused(described.code, described.message)
