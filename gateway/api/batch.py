"""Batch: many commands in one request, for the price of one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec.structs import astuple

from gateway.api.publishing import SLICE, Outcomes, Publisher, api_error
from gateway.api.schemas import (
    ApiError,
    ApiRequest,
    BatchCommand,
    BatchReply,
    BatchRequest,
    BatchResult,
    BroadcastRequest,
    PublishRequest,
)
from gateway.errors import BAD_REQUEST, RequestError

Method = Callable[[Any], Awaitable[Any]]

NAMES = BatchCommand.__struct_fields__


class Batches:
    """Carries out batches.

    Consecutive publishes are in flight together; the broker keeps their order. Any other command waits for those before
    it. (`parallel` allows any order, and this is one.)
    """

    def __init__(self, publisher: Publisher, methods: Mapping[str, Method], max_batch: int) -> None:
        """`methods`: the commands other than publish, by name."""
        self._publisher = publisher
        self._methods = methods
        self._max_batch = max_batch

    async def run(self, request: BatchRequest) -> BatchResult:
        """The replies in the order of the commands. Raises RequestError for a malformed batch."""
        if len(request.commands) > self._max_batch:
            raise RequestError(BAD_REQUEST, f"more than {self._max_batch} commands (api.max_batch)")
        commands = [_only(index, command) for index, command in enumerate(request.commands)]
        replies = [BatchReply()] * len(commands)
        run: list[int] = []
        # Channels that the broadcasts may still have, together.
        left = self._max_batch
        worked = 0
        for index, (name, command) in enumerate(commands):
            if name == "publish":
                run.append(index)
                continue
            await self._publish(run, commands, replies)
            run.clear()
            channels = len(command.channels) if isinstance(command, BroadcastRequest) else 0
            if channels > left:
                error = RequestError(BAD_REQUEST, f"more than {self._max_batch} channels in the batch (api.max_batch)")
                replies[index] = BatchReply(error=api_error(error))
                continue
            left -= channels
            replies[index] = await self._reply(name, command)
            worked += 1 + channels
            if worked >= SLICE:
                # Others get their turn, even if no command had to wait.
                worked = 0
                await asyncio.sleep(0)
        await self._publish(run, commands, replies)
        return BatchResult(replies)

    async def _publish(self, run: list[int], commands: list[tuple[str, ApiRequest]], replies: list[BatchReply]) -> None:
        outcomes = Outcomes(len(run))
        for slot, index in enumerate(run):
            request = commands[index][1]
            assert isinstance(request, PublishRequest)
            await outcomes.pace(slot, self._publisher.start(request, outcomes.slot(slot)))
        for index, outcome in zip(run, await outcomes.wait(), strict=True):
            if isinstance(outcome, ApiError):
                replies[index] = BatchReply(error=outcome)
            else:
                replies[index] = BatchReply(publish=outcome)

    async def _reply(self, name: str, command: ApiRequest) -> BatchReply:
        try:
            return BatchReply(**{name: await self._methods[name](command)})
        except RequestError as error:
            return BatchReply(error=api_error(error))


def _only(index: int, command: BatchCommand) -> tuple[str, ApiRequest]:
    """Name and request of the only command in the entry."""
    given = astuple(command)
    absent = given.count(None)
    if len(given) - absent != 1:
        raise RequestError(BAD_REQUEST, f"commands[{index}] has {len(given) - absent} commands, expected one")
    if command.publish is not None:
        return "publish", command.publish
    return next((name, request) for name, request in zip(NAMES, given, strict=True) if request is not None)
