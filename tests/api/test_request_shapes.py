"""Fields that are null or empty are not there, in every method and every form: some serialisers always write them."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from gateway.api.batch import NAMES
from tests.api.clients import native
from tests.api.conftest import Api
from tests.api.site import OPEN, Site, running, settings_of

# The least that each method needs.
LEAST: dict[str, dict[str, Any]] = {
    "publish": {"channel": "kept:a", "data": 1},
    "broadcast": {"channels": ["kept:a"], "data": 1},
    "subscribe": {"user": "ada", "channel": "kept:a"},
    "unsubscribe": {"user": "ada"},
    "disconnect": {"user": "ada"},
    "refresh": {"user": "ada"},
    "revoke": {"jti": "1"},
    "kick": {"user": "ada", "channel": "kept:a"},
    "history": {"channel": "kept:a"},
    "history_remove": {"channel": "kept:a"},
    "latest": {"channel": "values:a"},
    "latest_remove": {"channel": "values:a"},
    "presence": {"channel": "kept:a"},
    "presence_stats": {"channel": "kept:a"},
    "channels": {},
    "info": {},
    "drain": {"node": "nobody"},
    "reload": {"node": "nobody"},
}
# Fields of which null or nothing is a value of its own.
NAMED = {("publish", "data"), ("broadcast", "data"), ("revoke", "jti"), ("reload", "node")}
EMPTY: dict[str, Any] = {"string": "", "integer": 0, "boolean": False, "array": [], "object": {}}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A node with a channel for each method."""
    kept = {**OPEN, "delivery": "recoverable", "presence": True}
    with running(settings_of(namespaces={"kept": kept, "values": {"delivery": "latest"}})) as node:
        yield node


def resolved(api: Api, schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = api.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def optional(api: Api, method: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of a method that are not required, and what the document says of them."""
    content = api.document["paths"][f"/api/{method}"]["post"]["requestBody"]["content"]
    shape = resolved(api, content["application/json"]["schema"])
    for name, described in shape["properties"].items():
        if name not in shape["required"] and (method, name) not in NAMED:
            yield name, described


def empties(api: Api, described: dict[str, Any]) -> Iterator[Any]:
    """Null, what is empty among the types of a field, and objects whose fields are all null."""
    yield None
    for kind in (resolved(api, each) for each in described.get("anyOf", [described])):
        if kind.get("type") in EMPTY:
            yield EMPTY[kind["type"]]
        if "properties" in kind:
            yield dict.fromkeys(kind["properties"])


def outline(answer: dict[str, Any]) -> Any:
    """An answer without what differs from one call to the next."""
    if "error" in answer:
        return answer["error"]["code"]
    return {name: isinstance(value, list) and len(value) for name, value in answer["result"].items()}


@pytest.mark.parametrize("method", NAMES)
def test_null_and_empty_fields_are_not_there(api: Api, method: str) -> None:
    """The document allows each of them, and the answer is that without the field; by method, batch and pipe."""
    usual = outline(api.post(method, LEAST[method]))
    assert usual in (107, *[{}]) if method in ("drain", "reload") else isinstance(usual, dict)
    for name, described in optional(api, method):
        validator = jsonschema.Draft202012Validator({**described, "components": api.document["components"]})
        for value in empties(api, described):
            request = {**LEAST[method], name: value}
            # An offset of 0 and any epoch are a position, the beginning.
            if name == "since" and value is not None:
                assert outline(api.post(method, request)).keys() == usual.keys()
                continue
            assert validator.is_valid(value), (name, value)
            assert outline(api.post(method, request)) == usual, (name, value)
            (reply,) = api.post("batch", {"commands": [{method: request}], "parallel": None})["replies"]
            assert outline({"result": reply[method]} if method in reply else reply) == usual, (name, value)
            answer = api.http.post("/api", json={"method": method, "params": request}).json()
            assert outline(answer) == usual, (name, value)


def test_all_of_them_at_once(api: Api) -> None:
    """As a serialiser writes them that knows all fields."""
    for method in NAMES:
        fields = dict.fromkeys(name for name, _ in optional(api, method))
        assert outline(api.post(method, {**fields, **LEAST[method]})) == outline(api.post(method, LEAST[method]))


def test_null_is_a_payload(site: Site, api: Api) -> None:
    """Of a publication, as with Centrifugo; nothing else may be missing there. Beside b64data it is no second one."""
    with native(site) as client:
        client.subscribe("kept:null")
        api.call("publish", channel="kept:null", data=None)
        api.call("publish", channel="kept:null", data=None, b64data="")
        api.call("publish", channel="kept:null", data=None, b64data="MQ==")
        assert [client.publication()["data"] for _ in range(3)] == [None, None, 1]


def test_null_is_no_info(site: Site, api: Api) -> None:
    """Nor data of a subscription: the push has none."""
    with native(site, "ada") as ada:
        api.call("subscribe", user="ada", channel="kept:b", info=None, data=None)
        assert "data" not in ada.push()["subscribe"]
        (member,) = api.call("presence", channel="kept:b")["presence"].values()
        assert member == {"user": "ada", "client": ada.id}


def test_wrong_types_stay_wrong(api: Api) -> None:
    """An empty value of another type is refused; null is not a channel."""
    for body in ({"channel": None, "data": 1}, {"channel": "kept:a", "data": 1, "tags": ""}):
        assert api.send("publish", json.dumps(body).encode())["error"]["code"] == 107
