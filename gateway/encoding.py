"""Values of Python as JSON, from code that hooks and backends have written."""

from typing import Any

import msgspec

from gateway.json_text import TOO_DEEP, check_json, compact


def encoded(value: Any) -> bytes:
    """A value as JSON in one line. Dataclasses, datetime, UUID and models of msgspec and pydantic have a JSON.

    Raises TypeError or ValueError for what has none, and for what nests too deep.
    """
    try:
        text = compact(msgspec.json.encode(value, enc_hook=_of_model))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    # Raw values have not been checked, and others may nest too deep.
    check_json(text)
    return text


def _of_model(value: Any) -> Any:
    """Models of pydantic, which is not imported for that."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} has no JSON")
    # By alias, as the model reads it.
    return dump(mode="json", by_alias=True)
