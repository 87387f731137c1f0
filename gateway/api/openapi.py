"""The OpenAPI document, made from the same shapes that check requests and encode answers."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway import __version__
from gateway.api.methods import Method
from gateway.api.request_shapes import BatchRequest
from gateway.api.result_shapes import ApiError

# Before a method is looked at: a wrong key, not a POST, too large a body, too many guesses of keys.
REFUSALS = {"401": "The API key is missing or wrong.", "405": "Not a POST.", "413": "api.max_body", "429": "Too many."}

Schema = dict[str, Any]

# Of a command, given back with its reply.
ID: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": 2**32 - 1}

_REFERENCE = "#/components/schemas/{name}"


def document(methods: Mapping[str, Method]) -> Schema:
    """OpenAPI 3.1 of `POST /api/{method}` and `POST /api`; its schemas are JSON Schema 2020-12."""
    shapes = [ApiError, *(shape for each in methods.values() for shape in (each.request, each.result))]
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_REFERENCE)
    error, *rest = schemas
    described = list(zip(methods.items(), rest[::2], rest[1::2], strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gateway",
            "version": __version__,
            "description": "The server API of gateway. Answers are 200 with `result` or `error` in the body; with the "
            "header `X-Centrifugo-Error-Mode: transport` errors have HTTP statuses of their own and are the body. "
            "Fields that are not required may be null, which leaves them out.",
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
        "security": [{"key": []}],
        "paths": {
            "/api": {"post": _pipe(described, error)},
            **{
                f"/api/{name}": {"post": _operation(name, method, request, result, error)}
                for (name, method), request, result in described
            },
        },
    }


def _operation(name: str, method: Method, request: Schema, result: Schema, error: Schema) -> Schema:
    # A batch answers at the top level.
    answer = result if method.request is BatchRequest else _only("result", result)
    return {
        "operationId": name,
        "summary": " ".join((method.request.__doc__ or "").split()),
        "requestBody": {"required": True, "content": _json(request)},
        "responses": _responses(answer, error),
    }


def _pipe(methods: list[tuple[tuple[str, Method], Schema, Schema]], error: Schema) -> Schema:
    commands = [
        {
            "type": "object",
            "properties": {"method": {"const": name}, "params": {"anyOf": [request, {"type": "null"}]}, "id": ID},
            "required": ["method"],
            "additionalProperties": False,
        }
        for (name, method), request, _ in methods
        if method.request is not BatchRequest
    ]
    return {
        "operationId": "command",
        "summary": "Carry out one command, or several, one a line; each has a line of the answer.",
        "requestBody": {"required": True, "content": _json({"oneOf": commands})},
        "responses": _responses(_only("result", {"type": "object"}), error),
    }


def _responses(answer: Schema, error: Schema) -> Schema:
    failed = _only("error", error)
    return {
        "200": {"description": "`result`, or `error`.", "content": _json({"anyOf": [answer, failed]})},
        **{status: {"description": why, "content": _json(failed)} for status, why in REFUSALS.items()},
        "default": {"description": "With the error mode `transport`.", "content": _json(error)},
    }


def _only(name: str, schema: Schema) -> Schema:
    return {"type": "object", "properties": {name: schema}, "required": [name]}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
