"""The methods of the API, carried out by a node in the same process."""

from abc import abstractmethod
from typing import TypeVar

import msgspec

from gateway.api.result_shapes import PublishResult
from gateway.app import Composition
from gateway.client.async_methods import AsyncMethods
from gateway.client.commands import Command
from gateway.messages import DEFAULT_APP

R = TypeVar("R")


class InProcess(AsyncMethods):
    """One coroutine for each method of the API (`publish`, `presence`, `disconnect`, ...). They raise RequestError."""

    @property
    @abstractmethod
    def composition(self) -> Composition:
        """The parts of the node."""

    async def carry_out(self, command: Command[R]) -> R:
        """What one command answers. Raises RequestError."""
        methods = self.composition.methods
        if command.method == "batch":
            # Each of its commands is answered by itself, whatever is wrong with it.
            answer = await methods.call("batch", methods.decode("batch", msgspec.json.encode(command.request)))
            return msgspec.json.decode(msgspec.json.encode(answer), type=command.result)
        result: R = await methods.call(command.method, command.request)
        return result

    async def to_user(self, user: str, data: object) -> PublishResult:
        """Publish to the personal channel of a user, which all of its connections have.

        Raises RequestError, also when `personal.enabled` is off.
        """
        return await self.publish(self.composition.channels.of_user(DEFAULT_APP, user).name, data)


class NodeMethods(InProcess):
    """Those of one node."""

    def __init__(self, composition: Composition) -> None:
        self._composition = composition

    @property
    def composition(self) -> Composition:
        return self._composition
