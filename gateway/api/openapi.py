"""The OpenAPI document, made from the same shapes that check requests and encode answers."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway import __version__
from gateway.api.api_endpoint import Method
from gateway.api.schemas import ApiError, BatchRequest

_REFERENCE = "#/components/schemas/{name}"


def document(methods: Mapping[str, Method]) -> dict[str, Any]:
    """OpenAPI 3.1 of `POST /api/{method}`; its schemas are JSON Schema 2020-12."""
    shapes = [ApiError, *(shape for each in methods.values() for shape in (each.request, each.result))]
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_REFERENCE)
    error, *rest = schemas
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gateway",
            "version": __version__,
            "description": "The server API of gateway. Answers are 200 with `result` or `error` in the body; with the "
            "header `X-Centrifugo-Error-Mode: transport` errors have HTTP statuses of their own.",
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
        "security": [{"key": []}],
        "paths": {
            f"/api/{name}": {"post": _operation(name, method, request, result, error)}
            for (name, method), (request, result) in zip(methods.items(), pairs, strict=True)
        },
    }


def _operation(
    name: str, method: Method, request: dict[str, Any], result: dict[str, Any], error: dict[str, Any]
) -> dict[str, Any]:
    failed = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    # A batch answers at the top level.
    done = {"type": "object", "properties": {"result": result}, "required": ["result"]}
    answer = result if method.request is BatchRequest else done
    return {
        "operationId": name,
        "summary": " ".join((method.request.__doc__ or "").split()),
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {
            "200": {"description": "`result`, or `error`.", "content": _json({"anyOf": [answer, failed]})},
            "401": {"description": "The API key is missing or wrong.", "content": _json(failed)},
            "default": {"description": "With the error mode `transport`.", "content": _json(failed)},
        },
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
