"""Protobuf as other encoders write it, and as nobody should."""

from typing import Any

import msgspec
import pytest

from gateway.protocols.protobuf_wire import (
    MAX_DEPTH,
    MAX_FIELDS,
    Reader,
    Shape,
    blob,
    int32,
    int64,
    mapping,
    message,
    number,
    text,
    varint,
    written,
)


class Thing(msgspec.Struct):
    name: str | None = None
    size: int | None = None
    low: int | None = None
    flag: int | None = None
    data: bytes | None = None
    inner: "Thing | None" = None
    names: list[str] | None = None
    things: "list[Thing] | None" = None
    many: "Thing | None" = None
    known: "dict[str, Thing] | None" = None


THING = Shape(
    Thing,
    {
        1: text("name"),
        2: number("size"),
        3: number("low", int32),
        4: number("flag", int64),
        5: blob("data", bytes),
        7: text("names", is_list=True),
    },
)
MANY = Shape(Thing, {2: number("size")}, most=2 * MAX_FIELDS)
THING.add(9, message("many", MANY))
THING.add(6, message("inner", THING))
THING.add(8, message("things", THING, is_list=True))
THING.add(200, mapping("known", lambda name: message(name, THING)))


def read(data: bytes) -> tuple[Thing, bool]:
    """The message, and whether it has fields that are not defined."""
    thing, reader = Thing(), Reader(data)
    reader.read(THING, thing, 0, len(data))
    return thing, reader.has_unknown


@pytest.mark.parametrize(
    ("data", "thing"),
    [
        (b"", Thing()),
        (b"\x0a\x02hi\x10\x96\x01", Thing("hi", 150)),
        # Another order, and the last value wins.
        (b"\x10\x01\x0a\x01a\x10\x02\x0a\x00", Thing("", 2)),
        # A negative int32 has ten bytes; of a longer number the lower half counts.
        (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Thing(low=-1)),
        (b"\x18\x85\x80\x80\x80\x10", Thing(low=5)),
        (b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Thing(flag=-1)),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Thing(size=2**64 - 1)),
        # More bytes than a number needs.
        (b"\x90\x00\x81\x80\x00", Thing(size=1)),
        (b"\x2a\x02\xff\x00", Thing(data=b"\xff\x00")),
        # Messages are merged; those of a list are not.
        (b"\x32\x03\x0a\x01a\x32\x02\x10\x07", Thing(inner=Thing("a", 7))),
        (b"\x32\x00", Thing(inner=Thing())),
        (b"\x3a\x01a\x3a\x01b\x42\x02\x10\x01\x42\x00", Thing(names=["a", "b"], things=[Thing(size=1), Thing()])),
        # Entries of a map: the last of a key wins; its key or value may be missing.
        (
            b"\xc2\x0c\x07\x0a\x01k\x12\x02\x10\x01\xc2\x0c\x07\x0a\x01k\x12\x02\x10\x02\xc2\x0c\x02\x12\x00",
            Thing(known={"k": Thing(size=2), "": Thing()}),
        ),
        (b"\xc2\x0c\x03\x0a\x01k", Thing(known={"k": None})),  # type: ignore[dict-item]  # no value, not an empty one
    ],
)
def test_messages_are_read_as_they_are_written(data: bytes, thing: Thing) -> None:
    assert read(data) == (thing, False)


@pytest.mark.parametrize(
    "unknown",
    [
        b"\x50\x05",
        b"\x51" + bytes(8),
        b"\x52\x03\xff\xff\xff",
        b"\x55" + bytes(4),
        b"\xf8\xff\xff\xff\x0f\x01",
    ],
)
def test_fields_that_are_not_defined_are_passed_over(unknown: bytes) -> None:
    """Of any wire type, up to the largest field number; and they are told."""
    assert read(unknown + b"\x10\x07" + unknown) == (Thing(size=7), True)
    inner = unknown + b"\x10\x07"
    assert read(b"\x32" + written(len(inner)) + inner) == (Thing(inner=Thing(size=7)), True)


@pytest.mark.parametrize(
    "data",
    [
        # Cut off.
        b"\x10",
        b"\x10\x80",
        b"\x0a",
        b"\x0a\x05abcd",
        b"\x80",
        b"\x51" + bytes(7),
        b"\x55" + bytes(3),
        b"\x52\x01",
        # Too long.
        b"\x10" + b"\x80" * 10 + b"\x01",
        b"\x10" + b"\xff" * 9 + b"\x02",
        b"\x90\x80\x80\x80\x80\x00\x01",
        b"\x52" + b"\xff" * 9 + b"\x01",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a" + b"\xff" * 9 + b"\x01",
        # Numbers of fields that cannot be.
        b"\x00\x01",
        b"\x02\x01a",
        b"\xf8\xff\xff\xff\x7f\x01",
        # Wire types: groups, none at all, and another one than the field has.
        b"\x53\x54",
        b"\x54",
        b"\x56\x01",
        b"\x57\x01",
        b"\x08\x01",
        b"\x0d" + bytes(4),
        b"\x12\x01\x01",
        b"\x0b\x0c",
        # Strings.
        b"\x0a\x01\xff",
        b"\x0a\x03\xed\xa0\x80",
        b"\x0a\x02\xc0\x80",
        b"\x3a\x01\xff",
        # An inner message whose field ends behind it.
        b"\x32\x02\x0a\x02ab",
        b"\x32\x01\x10\x01",
        b"\x32\x02\x52\x02ab",
        b"\xc2\x0c\x02\x0a\x05abcde",
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    """Also inside of another message, where bytes follow."""
    with pytest.raises((ValueError, IndexError)):
        read(data)
    with pytest.raises((ValueError, IndexError)):
        read(b"\x32" + written(len(data)) + data + b"\x0a\x80\x01" + bytes(128))


def nested(levels: int, field: bytes = b"\x32") -> bytes:
    data = b""
    for _ in range(levels):
        data = field + written(len(data)) + data
    return data


@pytest.mark.parametrize("field", [b"\x32", b"\x42"])
def test_messages_nest_only_so_deep(field: bytes) -> None:
    """Singly or in lists."""
    assert not read(nested(MAX_DEPTH, field))[1]
    for levels in (MAX_DEPTH + 1, 20_000):
        with pytest.raises(ValueError, match="nested deeper"):
            read(nested(levels, field))


@pytest.mark.parametrize("field", [b"\x10\x01", b"\x50\x01", b"\x3a\x00", b"\x42\x00", b"\x42\x02\x10\x01"])
def test_the_fields_are_counted(field: bytes) -> None:
    """Known or not, and those of inner messages: they cost the time."""
    fields = 2 if len(field) == 4 else 1
    read(field * (MAX_FIELDS // fields))
    with pytest.raises(ValueError, match="too many"):
        read(field * (MAX_FIELDS // fields + 1))


def test_a_shape_may_allow_more_fields() -> None:
    """Once: what follows it is counted on."""
    sizes = b"\x10\x01" * (2 * MAX_FIELDS)
    many = b"\x4a" + written(len(sizes)) + sizes
    assert read(many)[0].many == Thing(size=1)
    longer = sizes + b"\x10\x01"
    for data in (b"\x4a" + written(len(longer)) + longer, many + b"\x10\x01", many * 2, b"\x4a\x00" * 2000):
        with pytest.raises(ValueError, match="too many"):
            read(data)


def test_unknown_fields_are_few_in_any_shape() -> None:
    """Skipping one may take longer than reading one, and nobody needs them."""
    unknown = b"\xf8\x07\x01" * MAX_FIELDS
    assert read(b"\x4a" + written(len(unknown)) + unknown)[1]
    longer = unknown + b"\xf8\x07\x01"
    with pytest.raises(ValueError, match="too many unknown"):
        read(b"\x4a" + written(len(longer)) + longer)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**14 - 1, 2**14, 2**21, 2**32, 2**63, 2**64 - 1])
def test_numbers_come_back(value: int) -> None:
    data = written(value)
    assert varint(b"\xff" + data + b"\xff", 1) == (value, 1 + len(data))


def test_a_negative_number_takes_ten_bytes() -> None:
    data: Any = written(-2)
    assert len(data) == 10
    assert int64(varint(data, 0)[0]) == -2
