"""A running node and a client of its API that holds every exchange against the OpenAPI document."""

import json
from collections.abc import Iterator
from typing import Any

import cent
import httpx
import jsonschema
import pytest
import requests

from gateway.api.methods import DOCUMENT
from gateway.errors import BAD_REQUEST, METHOD_NOT_FOUND, NOT_AVAILABLE
from tests.api.site import KEY, Site, running, settings_of
from tests.servers import ValkeyServer, valkey_server

# Codes of requests that the document does not describe.
REFUSED = {BAD_REQUEST.code, NOT_AVAILABLE.code, METHOD_NOT_FOUND.code}
TRANSPORT = {"X-Centrifugo-Error-Mode": "transport"}


class Api:
    """`POST /api/{method}`; every request and answer has to be what the document says."""

    def __init__(self, site: Site, *, internal: bool = False, key: str | None = KEY) -> None:
        headers = {"X-API-Key": key} if key is not None else {}
        address = site.internal if internal else site.public
        self.http = httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False, timeout=10)
        self.document: dict[str, Any] = self.http.get(DOCUMENT).json()

    def call(self, method: str, **body: Any) -> dict[str, Any]:
        """The result. Fails on any error."""
        answer = self.post(method, body)
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def error(self, method: str, **body: Any) -> tuple[int, str]:
        """Code and message of the error."""
        answer = self.post(method, body)
        assert answer.keys() == {"error"}, answer
        return answer["error"]["code"], answer["error"]["message"]

    def post(self, method: str, body: Any, **headers: str) -> dict[str, Any]:
        """The whole answer to a JSON body."""
        return self.send(method, json.dumps(body).encode(), **headers)

    def send(self, method: str, body: bytes, **headers: str) -> dict[str, Any]:
        """The whole answer to any body."""
        response = self.http.post(f"/api/{method}", content=body, headers=headers)
        return self.checked(method, body, response)

    def checked(self, method: str, body: bytes, response: httpx.Response) -> dict[str, Any]:
        """The answer, held against the document."""
        assert response.headers["content-type"] == "application/json"
        answer: dict[str, Any] = response.json()
        operation = self.document["paths"].get(f"/api/{method}")
        if operation is None:
            assert "error" in answer or answer.keys() == {"code", "message"}
            return answer
        described = operation["post"]["responses"]
        status = str(response.status_code)
        self._validate(answer, _schema(described.get(status, described["default"])))
        if response.status_code != 401 and not self._is_described(body, operation):
            assert codes(answer) & {BAD_REQUEST.code, NOT_AVAILABLE.code, METHOD_NOT_FOUND.code}, (
                "the document forbids what is served"
            )
        return answer

    def _is_described(self, body: bytes, operation: dict[str, Any]) -> bool:
        try:
            self._validate(json.loads(body), _schema(operation["post"]["requestBody"]))
        except (ValueError, jsonschema.ValidationError):
            return False
        except RecursionError:
            # Too deep for this process, whose stack is deeper than the node's.
            return True
        return True

    def _validate(self, value: Any, schema: dict[str, Any]) -> None:
        whole = {**schema, "components": self.document["components"]}
        jsonschema.Draft202012Validator(whole).validate(value)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()


def codes(answer: Any) -> set[int]:
    """Those of all errors in an answer."""
    if isinstance(answer, list):
        return set().union(*map(codes, answer))
    if not isinstance(answer, dict):
        return set()
    own = {answer["code"]} if answer.keys() == {"code", "message"} else set()
    return own.union(*map(codes, answer.values()))


def _schema(described: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = described["content"]["application/json"]["schema"]
    return schema


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A node shared by the tests of a module."""
    with running(settings_of()) as node:
        yield node


@pytest.fixture
def api(site: Site) -> Iterator[Api]:
    """With the key, on the public listener."""
    with Api(site) as client:
        yield client


@pytest.fixture
def client(site: Site) -> Iterator[cent.Client]:
    """The same, called by the client `cent`."""
    with requests.Session() as session:
        session.trust_env = False
        yield cent.Client(f"http://{site.public}/api", KEY, session=session)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """A server shared by the tests of a module."""
    with valkey_server() as running_server:
        yield running_server
