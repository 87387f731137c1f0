"""The OpenAPI document. Every other test of this folder holds its requests and answers against it (see conftest)."""

from typing import Any

import httpx
import jsonschema
import openapi_spec_validator
import pytest

from gateway import __version__
from gateway.api.batch import NAMES
from tests.api.conftest import Api
from tests.api.site import Site


def schema_of(api: Api, method: str) -> dict[str, Any]:
    """Of the request, with what it refers to."""
    operation = api.document["paths"][f"/api/{method}"]["post"]
    schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return {**schema, "components": api.document["components"]}


def test_the_document_is_openapi(api: Api) -> None:
    """3.1, as its own validator sees it."""
    openapi_spec_validator.validate(api.document)
    assert api.document["info"]["version"] == __version__


def test_it_is_served_without_a_key_on_both_listeners(site: Site, api: Api) -> None:
    """It holds no secret, and tools that read it send none; but a page on the web does not get to read it."""
    for address in (site.public, site.internal):
        response = httpx.get(f"http://{address}/api/openapi.json", trust_env=False)
        assert response.headers["content-type"] == "application/json"
        assert response.json() == api.document
        assert "access-control-allow-origin" not in response.headers


def test_it_describes_every_method_with_words(api: Api) -> None:
    """Each operation has an id, a summary, and the answers 200, 401 and default."""
    assert api.document["paths"].keys() == {"/api", *(f"/api/{name}" for name in (*NAMES, "batch"))}
    for path, item in api.document["paths"].items():
        assert item["post"]["operationId"] == (path.removeprefix("/api").removeprefix("/") or "command")
        assert item["post"]["summary"].endswith(".")
        assert item["post"]["responses"].keys() == {"200", "401", "405", "413", "429", "default"}
    assert api.document["security"] == [{"key": []}]
    assert api.document["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"


def test_it_describes_commands_that_name_their_method(api: Api) -> None:
    """Each with the parameters of its own method."""
    content = api.document["paths"]["/api"]["post"]["requestBody"]["content"]
    schema = {**content["application/json"]["schema"], "components": api.document["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    publish = {"channel": "news", "data": 1}
    for command, described in (
        ({"method": "publish", "params": publish, "id": 1}, True),
        ({"method": "info"}, True),
        ({"method": "info", "params": None, "id": None}, True),
        ({"method": "presence", "params": publish}, False),
        ({"method": "batch", "params": {"commands": [{"info": {}}]}}, False),
        ({"method": "info", "id": -1}, False),
        ({"params": publish}, False),
    ):
        assert validator.is_valid(command) is described, command
        code = api.http.post("/api", json=command).json().get("error", {}).get("code")
        assert (code is None) is described, command


@pytest.mark.parametrize("method", [*NAMES, "batch"])
def test_every_shape_is_closed_and_described(api: Api, method: str) -> None:
    """A misspelt field is refused by the document as by the node; every field has a type or says what it is."""
    name = schema_of(api, method)["$ref"].rpartition("/")[2]
    assert api.document["components"]["schemas"][name]["additionalProperties"] is False
    for described in _properties(api, method).values():
        assert described.keys() & {"type", "anyOf", "$ref", "description"}


def _properties(api: Api, method: str) -> dict[str, Any]:
    schema = schema_of(api, method)
    name = schema["$ref"].rpartition("/")[2]
    properties: dict[str, Any] = api.document["components"]["schemas"][name]["properties"]
    return properties
