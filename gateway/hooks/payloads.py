"""Typed payloads: what may be published in a namespace, as a model of msgspec or pydantic says."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from gateway.errors import BAD_REQUEST, INTERNAL, ErrorCode, RequestError
from gateway.json_text import check_json, compact, mended
from gateway.messages import Kind

# A JSON Schema.
Schema: TypeAlias = Any

# Characters of an error that a client is told. It may quote what the client sent.
LONGEST = 200
# Errors of pydantic, above which only their number is told: to put 20,000 of them into words takes 40 ms.
MOST_ERRORS = 100

# Where msgspec puts the place of an error.
_PLACE = re.compile(r"(.*) - at (?:`(key)` in )?`\$(.*)`", re.DOTALL)
# What a NewType and an alias (`type`) stand for.
_NAMED = ("__supertype__", "__value__")
# Packages whose constraints in Annotated msgspec does not know, and would skip.
_OF_PYDANTIC = ("pydantic", "annotated_types")


class Misfit(ValueError):
    """A payload that does not fit. The text names the field, and says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The model of one namespace."""

    # Empty for the channels without one.
    namespace: str
    # Of the model, for logs.
    name: str
    # From JSON to the value of the model. Raises Misfit, and whatever the code of the model raises.
    decode: Callable[[bytes], Any]
    # The JSON Schema (2020-12), and the schemas that it refers to, by name. The argument is how it refers to them:
    # "{name}" stands for the name.
    schema: Callable[[str], tuple[Schema, Mapping[str, Schema]]]


def payload_of(namespace: str, model: Any) -> Payload:
    """What checks the payloads of a namespace. Raises TypeError for what cannot be a model.

    Models of pydantic, and types that contain one or a constraint of pydantic, are checked by pydantic; all others by
    msgspec, if it knows them.
    """
    name = f"{model.__module__}.{model.__qualname__}" if isinstance(model, type) else repr(model)
    if isinstance(model, str | None | BaseModel | msgspec.Struct):
        raise TypeError(f"{name} is a value, and cannot be a model of payloads: give its type")
    is_struct = isinstance(model, type) and issubclass(model, msgspec.Struct)
    needs_pydantic = _needs_pydantic(model)
    if is_struct or not needs_pydantic:
        try:
            found = Payload(namespace, name, *_by_msgspec(model))
            if needs_pydantic:
                # msgspec would skip it, and pydantic knows no Struct.
                raise TypeError("it has a constraint of pydantic: for a Struct, write msgspec.Meta")
            return found
        except TypeError as error:
            if is_struct:
                raise TypeError(_cannot(name, error)) from error
    try:
        return Payload(namespace, name, *_by_pydantic(model))
    except Exception as error:
        # Among them errors of names that a model refers to, and does not find.
        raise TypeError(_cannot(name, error)) from error


class Payloads:
    """The models of all namespaces."""

    def __init__(self, declared: Iterable[Payload], failed: Callable[[str], object]) -> None:
        """`failed` is called with the name of a model whose code has raised, while that exception is handled."""
        self._by_namespace = {each.namespace: each for each in declared}
        self._failed = failed

    def __contains__(self, namespace: str) -> bool:
        return namespace in self._by_namespace

    def decode(self, namespace: str, kind: Kind, data: bytes) -> Any:
        """The payload as its model has it; None where the namespace has none.

        Raises RequestError: 107, whose message names the field, or 100 for a fault of the model.
        """
        payload = self._by_namespace.get(namespace)
        if payload is None:
            return None
        if kind is not Kind.JSON:
            raise _refusal(f"expected JSON, got {kind.name.lower()}")
        try:
            return payload.decode(data)
        except Misfit as misfit:
            raise _refusal(str(misfit)) from None
        except KeyboardInterrupt:
            raise
        except BaseException:
            # A panic of pydantic's core is no Exception.
            self._failed(payload.name)
            raise RequestError(INTERNAL, f"the payload model {payload.name} failed") from None

    def find_error(self, namespace: str, kind: Kind, data: bytes) -> RequestError | None:
        """The error of `decode`, None if the payload fits."""
        try:
            self.decode(namespace, kind, data)
        except RequestError as error:
            return error.detach()
        return None


def json_of_text(data: bytes) -> bytes:
    """A text as the JSON that it is. Raises RequestError(107)."""
    data = mended(data)
    try:
        check_json(data)
    except ValueError as error:
        raise _refusal(f"not JSON: {error}") from None
    return compact(data)


def _refusal(text: str) -> RequestError:
    """The client is told: it is about what the client itself has sent."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return RequestError(ErrorCode(BAD_REQUEST.code, f"{BAD_REQUEST.message}: payload: {text}"))


def _cannot(name: str, error: Exception) -> str:
    return f"{name} cannot be a model of payloads: {error}"


def _by_msgspec(model: Any) -> tuple[Any, Any]:
    """`decode` and `schema` of a Payload. Raises TypeError for what msgspec does not know."""
    decode_json = msgspec.json.Decoder(model).decode

    def decode(data: bytes) -> Any:
        try:
            return decode_json(data)
        except msgspec.DecodeError as error:
            raise Misfit(_worded(str(error))) from None

    def schema(reference: str) -> tuple[Schema, Mapping[str, Schema]]:
        (found,), named = msgspec.json.schema_components([model], ref_template=reference)
        return found, named

    # Fails for types that the decoder takes and can never accept.
    schema("{name}")
    return decode, schema


def _worded(text: str) -> str:
    place = ""
    if found := _PLACE.fullmatch(text):
        text, key, place = found.groups()
        place = f"{place.lstrip('.') or 'value'}{' (key)' if key else ''}: "
    return f"{place}{text[:1].lower()}{text[1:]}".replace("`", "")


def _by_pydantic(model: Any) -> tuple[Any, Any]:
    """`decode` and `schema` of a Payload. Raises anything for what is no model."""
    adapter: TypeAdapter[Any] = model if isinstance(model, TypeAdapter) else TypeAdapter(model)

    def decode(data: bytes) -> Any:
        try:
            return adapter.validate_json(data)
        except ValidationError as error:
            raise Misfit(_first(error)) from None

    def schema(reference: str) -> tuple[Schema, Mapping[str, Schema]]:
        found = adapter.json_schema(ref_template=reference.replace("{name}", "{model}"))
        return found, found.pop("$defs", {})

    schema("{name}")
    return decode, schema


def _first(error: ValidationError) -> str:
    if error.error_count() > MOST_ERRORS:
        return f"{error.error_count()} values are wrong"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in first["loc"]).lstrip(".")
    text = first["msg"]
    return f"{place and f'{place}: '}{text[:1].lower()}{text[1:]}"


def _needs_pydantic(model: Any) -> bool:
    return isinstance(model, TypeAdapter) or any(map(_is_of_pydantic, _parts(model, {})))


def _is_of_pydantic(part: Any) -> bool:
    if isinstance(part, type):
        return issubclass(part, BaseModel) or is_pydantic_dataclass(part)
    return type(part).__module__.partition(".")[0] in _OF_PYDANTIC


def _parts(model: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """The types in a type, and what Annotated says of them. `seen` has those of before, by id."""
    if id(model) in seen:
        return
    # Kept: some are made here, and the id of one that has gone is given to the next.
    seen[id(model)] = model
    yield model
    # Arguments, of Annotated what it says as well; the class of a generic one; the type of a NewType, and of an alias.
    inner = [*get_args(model), get_origin(model), *(getattr(model, name, None) for name in _NAMED)]
    if isinstance(model, type):
        # Names may be missing; the library then says so.
        with suppress(Exception):
            inner += get_type_hints(model, include_extras=True).values()
    for each in inner:
        yield from _parts(each, seen)
