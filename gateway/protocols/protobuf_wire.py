"""Protobuf on the wire (protobuf.dev/programming-guides/encoding): reads messages into objects, and writes fields.

Reading is stricter than the format: it refuses groups, which are deprecated, and a known field with another wire type.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Bytes of a varint, and of one that holds a tag: a field number has 29 bits at most.
_LONGEST = 10
_LONGEST_TAG = 5
_MAX_VALUE = 2**64 - 1
_MAX_TAG = 2**32 - 1
# Fields of a message with all that it holds, unless it holds one whose shape allows more. That many take 0.4 ms, and
# 1.6 ms if they are unknown numbers of ten bytes; without a limit, 64 KiB hold 32,000.
MAX_FIELDS = 512
# How deep messages may nest; Google's parsers allow 100 levels.
MAX_DEPTH = 64

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message: the attribute it becomes, and how."""

    name: str
    wire: int
    # Makes the value from a number, or from bytes.
    convert: Callable[[Any], Any]
    # Of a message.
    shape: "Shape | None" = None
    is_list: bool = False
    is_map: bool = False
    # Neither a message nor a list.
    is_single: bool = True


class Shape:
    """A message: the type of its objects, whose attributes are None while they are absent, and its fields by number."""

    __slots__ = ("fields", "kind", "most", "numbers")

    def __init__(self, kind: Callable[[], Any], fields: Mapping[int, Field], most: int = 0) -> None:
        """`most`: how many fields its messages may have, with all that they hold, if that is more than MAX_FIELDS."""
        self.kind = kind
        self.most = most
        self.fields: dict[int, Field] = {}
        self.numbers: set[int] = set()
        for number, field in fields.items():
            self.add(number, field)

    def add(self, number: int, field: Field) -> None:
        """Define one more field."""
        self.fields[number << 3 | field.wire] = field
        self.numbers.add(number)


def number(name: str, convert: Callable[[int], Any] = int) -> Field:
    """A field of type uint32, uint64 or, with a `convert`, of another that is written as a varint."""
    return Field(name, VARINT, convert)


def int32(value: int) -> int:
    """A varint as an int32: its lower half, in two's complement."""
    value &= 0xFFFFFFFF
    return value - 2**32 if value >> 31 else value


def int64(value: int) -> int:
    """A varint as an int64, in two's complement."""
    return value - 2**64 if value >> 63 else value


def text(name: str, *, is_list: bool = False) -> Field:
    """A field of type string."""
    return Field(name, LENGTH, bytes.decode, is_list=is_list, is_single=not is_list)


def blob(name: str, convert: Callable[[bytes], Any]) -> Field:
    """A field of type bytes."""
    return Field(name, LENGTH, convert)


def message(name: str, shape: Shape, *, is_list: bool = False) -> Field:
    """A field that holds a message, or several of them."""
    return Field(name, LENGTH, bytes, shape, is_list, is_single=False)


class _Entry:
    __slots__ = ("key", "value")

    def __init__(self) -> None:
        self.key: str | None = None
        self.value: Any = None


def mapping(name: str, value: Callable[[str], Field]) -> Field:
    """A field that maps strings to values; `value` makes the field of a value, by its name."""
    entry = Shape(_Entry, {1: text("key"), 2: value("value")})
    return Field(name, LENGTH, bytes, entry, is_map=True, is_single=False)


class Reader:
    """Reads one message. Raises ValueError, or IndexError where the bytes end too early.

    Time and memory are bounded by the length of the bytes and the number of fields: nothing is allocated for what a
    length announces, and only strings and bytes are copied, once.
    """

    __slots__ = ("_data", "_left", "_unknown")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_FIELDS
        # Fields that were skipped because their numbers are not defined.
        self._unknown = 0

    @property
    def has_unknown(self) -> bool:
        """Whether a field was skipped because its number is not defined."""
        return self._unknown > 0

    def read(self, shape: Shape, into: Any, at: int, end: int, depth: int = 0) -> None:
        """Read the fields in [at, end). The last value wins, and messages are merged, also with what is there."""
        data, fields, left = self._data, shape.fields, self._left
        while at < end:
            left -= 1
            if left < 0:
                raise ValueError("too many fields")
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag, at = varint(data, at - 1, _LONGEST_TAG)
            field = fields.get(tag)
            if field is None:
                at = self._skip(shape, tag, at)
                continue
            # A number, or the length of what follows.
            value = data[at]
            at += 1
            if value >= 0x80:
                value, at = varint(data, at - 1)
            if tag & 7 == VARINT:
                setattr(into, field.name, field.convert(value))
                continue
            start, at = at, at + value
            if at > end:
                break
            if field.is_single:
                setattr(into, field.name, field.convert(data[start:at]))
            else:
                self._left = left
                self._nested(field, into, start, at, depth)
                left = self._left
        self._left = left
        if at > end:
            raise ValueError("a field ends behind its message")

    def _nested(self, field: Field, into: Any, start: int, end: int, depth: int) -> None:
        """Read a message, or one value of a list."""
        shape = field.shape
        if shape is None:
            _all(into, field).append(field.convert(self._data[start:end]))
            return
        if depth == MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        found = None if field.is_list or field.is_map else getattr(into, field.name)
        if found is None and shape.most > self._left:
            # Not again for more of the same message.
            self._left = shape.most
        inner = shape.kind() if found is None else found
        self.read(shape, inner, start, end, depth + 1)
        if field.is_list:
            _all(into, field).append(inner)
        elif field.is_map:
            found = getattr(into, field.name)
            if found is None:
                setattr(into, field.name, found := {})
            found[inner.key or ""] = inner.value
        elif found is None:
            setattr(into, field.name, inner)

    def _skip(self, shape: Shape, tag: int, at: int) -> int:
        """Where a field ends that is not defined; possibly behind the message."""
        defined, wire = tag >> 3, tag & 7
        if not defined or tag > _MAX_TAG:
            raise ValueError("a field number that cannot be")
        if defined in shape.numbers or wire not in (VARINT, FIXED64, LENGTH, FIXED32):
            raise ValueError(f"field {defined} with wire type {wire}")
        self._unknown += 1
        # Whatever the shape allows: clients of a newer protocol send a few.
        if self._unknown > MAX_FIELDS:
            raise ValueError("too many unknown fields")
        if wire == FIXED64:
            return at + 8
        if wire == FIXED32:
            return at + 4
        value, at = varint(self._data, at)
        return at + value if wire == LENGTH else at


def _all(into: Any, field: Field) -> list[Any]:
    found: list[Any] | None = getattr(into, field.name)
    if found is None:
        setattr(into, field.name, found := [])
    return found


def varint(data: bytes, at: int, longest: int = _LONGEST) -> tuple[int, int]:
    """A number, and where it ends. Raises ValueError for one that is cut off, too long or above 64 bits."""
    if at + 1 < len(data) and data[at] >= 0x80 > data[at + 1]:
        # Most lengths that do not fit into one byte.
        return data[at] & 0x7F | data[at + 1] << 7, at + 2
    value = shift = 0
    for byte in data[at : at + longest]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MAX_VALUE:
                break
            return value, at
        shift += 7
    raise ValueError("a varint that is cut off or too long")


# Varints of one and two bytes, which are most lengths.
_SHORT = [bytes((value,)) for value in range(0x80)]
_SHORT += [bytes((value & 0x7F | 0x80, value >> 7)) for value in range(0x80, 0x800)]


def written(value: int) -> bytes:
    """A number of up to 64 bits as a varint; a negative one takes ten bytes."""
    if 0 <= value < 0x800:
        return _SHORT[value]
    value &= _MAX_VALUE
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def delimited(data: bytes) -> bytes:
    """Bytes behind their length."""
    return written(len(data)) + data


def tag_of(field: int, wire: int) -> bytes:
    """What comes before the value of a field."""
    return written(field << 3 | wire)
