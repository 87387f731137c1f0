"""The scenarios, and those that are read from a file."""

import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from gateway_loadtest.planning.plan import Plan, StagePlan, UsageError

# Seconds before something happens to the connections and after it, so that it can be compared with what is usual.
CALM = 5.0


class File(msgspec.Struct, forbid_unknown_fields=True):
    """A scenario file: settings of the plan, and its stages."""

    stages: list[StagePlan]
    channels: int | None = None
    members: int | None = None
    channels_per_connection: int | None = None
    idle: int | None = None
    rate: float | None = None
    payload: int | None = None
    prefix: str | None = None
    connect_rate: float | None = None
    back_within: float | None = None
    grace: float | None = None
    max_loss: int | None = None
    max_refused: int | None = None
    seed: int | None = None


def steady(seconds: float) -> tuple[StagePlan, ...]:
    return (StagePlan("steady", seconds),)


def idle(seconds: float) -> tuple[StagePlan, ...]:
    return (StagePlan("idle", seconds, rate=0.0),)


def storm(seconds: float, share: float) -> tuple[StagePlan, ...]:
    """`share` of the subscribers lose their connection at once."""
    return (StagePlan("before", CALM), StagePlan("storm", seconds, drop=share), StagePlan("after", CALM))


def slow(seconds: float, share: float) -> tuple[StagePlan, ...]:
    """`share` of the subscribers read nothing for a while."""
    return (StagePlan("before", CALM), StagePlan("slow", seconds, slow=share), StagePlan("after", CALM))


def rolling(seconds: float, commands: Sequence[str], pause: float) -> tuple[StagePlan, ...]:
    """The commands restart one node after the other, while is published."""
    return (
        StagePlan("before", CALM),
        StagePlan("rolling", seconds, commands=tuple(commands), pause=pause),
        StagePlan("after", CALM),
    )


def of_file(path: Path, options: dict[str, Any], given: Collection[str] = ()) -> Plan:
    """A plan from a file in TOML. It sets `options`, but for the names in `given`. Raises UsageError."""
    try:
        file = msgspec.convert(tomllib.loads(path.read_text()), File)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    except msgspec.ValidationError as error:
        known = " (a file has {}; a stage {})".format(
            *(", ".join(each.__struct_fields__) for each in (File, StagePlan))
        )
        raise UsageError(f"{path}: {error}{known if 'unknown field' in str(error) else ''}") from None
    settings = {name: value for name, value in structs.asdict(file).items() if value is not None}
    settings = {name: value for name, value in settings.items() if name not in given}
    try:
        return Plan(**{**options, **settings, "stages": tuple(file.stages)})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
