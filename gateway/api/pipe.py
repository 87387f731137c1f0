"""Pipe: commands that name their method, the only form that older clients of this API know (gocent 3, cent 4)."""

import re
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway.api.batch import Batches, Command, in_slices
from gateway.api.methods import Methods, decoded, decoder_of
from gateway.api.publications import api_error, given
from gateway.api.result_shapes import ApiError
from gateway.errors import RequestError
from gateway.metrics import Metrics

# A line that is not empty, from its first character on.
_LINE = re.compile(rb"\S[^\n]*")

# The parameters of a command without any.
NO_PARAMS = b"{}"


class PipeCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command of the body."""

    method: str
    params: Raw | UnsetType = UNSET
    id: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None


class _Id(msgspec.Struct, frozen=True):
    """The id of a command with whatever else."""

    id: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None


class PipeReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """`result` or `error`, and the id of the command if it has one."""

    result: Any = None
    error: ApiError | None = None
    id: int | None = None


class Pipe:
    """Carries out the commands of one body, one a line, as a batch: in their order, each with a reply of its own."""

    def __init__(self, batches: Batches, methods: Methods, metrics: Metrics) -> None:
        """`methods`: those that a command may name."""
        self._batches = batches
        self._methods = methods
        self._metrics = metrics

    async def run(self, body: bytes) -> list[PipeReply]:
        """The replies in the order of the commands. Raises RequestError for a body that is refused as a whole."""
        raws = self._raws(body)
        read = await in_slices(self._read, raws)
        results = await self._batches.carry_out([command for _, command in read])
        return [
            PipeReply(error=result, id=id) if isinstance(result, ApiError) else PipeReply(result=result, id=id)
            for (id, _), result in zip(read, results, strict=True)
        ]

    def _read(self, line: bytes) -> tuple[int | None, Command]:
        """The id of a command and the command itself."""
        id = None
        try:
            id = _decode_id(line).id
            command: PipeCommand = _decode_command(line)
            self._methods.check(command.method)
            self._metrics.api_requests.add(command.method)
            return id, (command.method, self._methods.decode(command.method, given(command.params) or NO_PARAMS))
        except RequestError as error:
            return id, api_error(error)

    def _raws(self, body: bytes) -> list[Raw]:
        """The JSON of each command: one that may have several lines, or one a line. Raises RequestError."""
        try:
            return [decoded(_decode_raw, body)]
        except RequestError:
            # (Not by the decoder of lines: that takes several commands in one line, however many.)
            lines = [found[0] for found in islice(_LINE.finditer(body), self._batches.most + 1)]
        self._batches.check_count(len(lines))
        return [decoded(_decode_raw, line) for line in lines]


_decode_id = decoder_of(_Id)
_decode_command = decoder_of(PipeCommand)
_decode_raw = msgspec.json.Decoder(Raw).decode
