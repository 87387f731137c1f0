"""Batch: many commands in one request, for the price of one."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import astuple

from gateway.api.methods import DOCUMENT, UNSERVED, Methods, decoder_of
from gateway.api.publications import api_error, given
from gateway.api.publishing import SLICE, Outcomes, Publisher
from gateway.api.request_shapes import (
    ApiRequest,
    BatchCommand,
    BroadcastRequest,
    PublishRequest,
)
from gateway.api.result_shapes import ApiError, BatchReply, BatchResult, BroadcastResult
from gateway.errors import BAD_REQUEST, LIMIT_EXCEEDED, METHOD_NOT_FOUND, RequestError

T = TypeVar("T")

NAMES = BatchCommand.__struct_fields__
# Bytes of results after which only publishes are carried out: 10,000 commands that each read 10,000 members would fill
# the memory.
ANSWER = 32 * 1024 * 1024

# A command by the name of its method, or the error that answers it.
Command: TypeAlias = tuple[str, ApiRequest] | ApiError


class _Whole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """BatchRequest whose commands are yet to be read. (Of several values of one name, the last one counts.)"""

    commands: Raw
    parallel: bool | None = None


class _Object(msgspec.Struct, frozen=True, gc=False):
    """Any JSON object; its fields are skipped."""


# One entry: nothing is built for names that nobody knows, of which there may be millions.
_Known = msgspec.defstruct(
    "_Known", [(name, Raw | UnsetType, UNSET) for name in (*NAMES, *sorted(UNSERVED), "batch")], frozen=True
)
_Entry = msgspec.defstruct("_Entry", [], bases=(_Known,), frozen=True, forbid_unknown_fields=True)


class Batch(NamedTuple):
    """Commands; or their JSON, if at least one of them is malformed."""

    commands: Sequence[Command]
    raws: Sequence[Raw] = ()


_encode = msgspec.json.Encoder().encode
_decode_whole = decoder_of(_Whole)
_decode_commands = decoder_of(list[BatchCommand])
_decode_objects = decoder_of(list[_Object])
_decode_raws = decoder_of(list[Raw])
_decode_entry = decoder_of(_Entry)
_decode_known = decoder_of(_Known)


class Batches:
    """Carries out batches. A command that is malformed or fails has the error as its reply, and does not stop others.

    Consecutive publishes are in flight together; the broker keeps their order. Any other command waits for those before
    it. (`parallel` allows any order, and this is one.)
    """

    def __init__(self, publisher: Publisher, methods: Methods, max_batch: int) -> None:
        """`methods`: those that a command may name."""
        self._publisher = publisher
        self._methods = methods
        # Commands at most.
        self.most = max_batch
        # Those that are carried out now. (The loop itself keeps no task alive.)
        self._calls: set[asyncio.Future[Any]] = set()

    def decode(self, body: bytes) -> Batch:
        """The commands in a request. Raises RequestError if it is malformed as a whole."""
        entries = bytes(_decode_whole(body).commands)
        if entries.count(b"{") > self.most:
            # Before anything is built for each of them.
            self._check_objects(entries)
        try:
            # All at once takes a third of the time.
            commands = _decode_commands(entries)
        except RequestError:
            self._check_objects(entries)
            return Batch((), _decode_raws(entries))
        self.check_count(len(commands))
        return Batch([_only(command) for command in commands])

    def _check_objects(self, entries: bytes) -> None:
        """Raises RequestError unless it is a list of objects, and not too many."""
        try:
            objects = _decode_objects(entries)
        except RequestError as error:
            message, at, place = error.detail.partition(" - at `$")
            raise RequestError(error.error, f"{message} - at `$.commands{place if at else '`'}") from None
        self.check_count(len(objects))

    def check_count(self, count: int) -> None:
        """Raises RequestError if these are too many commands, or none."""
        if not count:
            raise RequestError(BAD_REQUEST, "no commands")
        if count > self.most:
            raise RequestError(BAD_REQUEST, f"more than {self.most} commands (api.max_batch)")

    async def run(self, batch: Batch) -> BatchResult:
        """The replies in the order of the commands."""
        commands = batch.commands or await in_slices(self._read, batch.raws)
        results = await self.carry_out(commands)
        return BatchResult([_reply(*pair) for pair in zip(commands, results, strict=True)])

    async def carry_out(self, commands: Sequence[Command]) -> list[Any]:
        """The result of each command, or its error."""
        results: list[Any] = [None] * len(commands)
        run: list[int] = []
        # Channels that the broadcasts may still have, together.
        left = self.most
        worked = size = 0
        for index, command in enumerate(commands):
            if isinstance(command, ApiError):
                results[index] = command
                continue
            name, request = command
            if name == "publish":
                run.append(index)
                continue
            await self._publish(run, commands, results)
            run.clear()
            channels = len(request.channels) if isinstance(request, BroadcastRequest) else 0
            if channels > left:
                error = RequestError(BAD_REQUEST, f"more than {self.most} channels in the batch (api.max_batch)")
                results[index] = api_error(error)
                continue
            left -= channels
            if size > ANSWER and not channels:
                error = RequestError(LIMIT_EXCEEDED, f"not carried out: the answer has {ANSWER} bytes without it")
                results[index] = api_error(error)
                continue
            result = await self._result(name, request)
            if not isinstance(result, ApiError | BroadcastResult):
                encoded = _encode(result)
                size += len(encoded)
                result = Raw(encoded)
            results[index] = result
            worked += 1 + channels
            if worked >= SLICE:
                # Others get their turn, even if no command had to wait.
                worked = 0
                await asyncio.sleep(0)
        await self._publish(run, commands, results)
        return results

    async def _publish(self, run: list[int], commands: Sequence[Command], results: list[Any]) -> None:
        outcomes = Outcomes(len(run))
        for slot, index in enumerate(run):
            command = commands[index]
            assert not isinstance(command, ApiError)
            request = command[1]
            assert isinstance(request, PublishRequest)
            if outcomes.has_enough(self._publisher.start(request, outcomes.slot(slot))):
                await outcomes.give_way()
        for index, outcome in zip(run, await outcomes.wait(), strict=True):
            results[index] = outcome

    async def _result(self, name: str, request: ApiRequest) -> Any:
        """What a method answers. It is carried out to its end even if the client leaves meanwhile."""
        calling = asyncio.ensure_future(self._methods.call(name, request))
        self._calls.add(calling)
        calling.add_done_callback(self._calls.discard)
        try:
            return await asyncio.shield(calling)
        except RequestError as error:
            return api_error(error)

    def _read(self, entry: bytes) -> Command:
        try:
            try:
                found = _given(_decode_entry(entry))
            except RequestError:
                if not _given(_decode_known(entry)):
                    raise RequestError(METHOD_NOT_FOUND, f"no such method; see {DOCUMENT}") from None
                raise
            if len(found) != 1:
                return _not_one(len(found))
            name, request = found[0]
            return name, self._methods.decode(name, request)
        except RequestError as error:
            return api_error(error)


async def in_slices(read: Callable[[bytes], T], raws: Sequence[Raw]) -> list[T]:
    """Read each text; others get their turn meanwhile."""
    found = []
    for index, raw in enumerate(raws):
        found.append(read(bytes(raw)))
        if index % SLICE == SLICE - 1:
            await asyncio.sleep(0)
    return found


def _given(entry: msgspec.Struct) -> list[tuple[str, bytes]]:
    """The commands in an entry: name and request."""
    values = zip(entry.__struct_fields__, map(given, astuple(entry)), strict=True)
    return [(name, request) for name, request in values if request]


def _only(command: BatchCommand) -> Command:
    """Name and request of the only command in the entry."""
    given = astuple(command)
    absent = given.count(None)
    if len(given) - absent != 1:
        return _not_one(len(given) - absent)
    if command.publish is not None:
        return "publish", command.publish
    return next((name, request) for name, request in zip(NAMES, given, strict=True) if request is not None)


def _not_one(count: int) -> ApiError:
    return api_error(RequestError(BAD_REQUEST, f"{count} commands in one entry, expected one"))


def _reply(command: Command, result: Any) -> BatchReply:
    if isinstance(result, ApiError) or isinstance(command, ApiError):
        return BatchReply(error=result)
    name = command[0]
    return BatchReply(publish=result) if name == "publish" else BatchReply(**{name: result})
