"""`gateway schema`"""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from gateway.cli.schema import draft_7
from tests.cli.conftest import Run
from tests.cluster.sdk import SDK_FOLDER

MODELS = """
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, Field

from gateway.hooks import Hooks

class Author(msgspec.Struct):
    name: str

class Line(msgspec.Struct, tag=True):
    text: str
    author: Author | None = None

class Image(msgspec.Struct, tag=True):
    size: tuple[int, int]

class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=0)] = 9
    kittens: list["Cat"] = []

class Dog(BaseModel):
    kind: Literal["dog"]
    at: tuple[float, str] | None = None

class Line2(BaseModel):
    author: "Author2"

class Author2(BaseModel):
    name: str

Line2.__name__, Author2.__name__ = "Line", "Author"

hooks = Hooks()
hooks.payload("room", Line | Image)
hooks.payload("pets.all", Annotated[Cat | Dog, Field(discriminator="kind")])
hooks.payload("other", Line2)
hooks.payload("", list[int])

@hooks.publish("other")
async def allow(request):
    return True
"""
SETTINGS = """
auth.hmac_secret = "0123456789abcdef0123456789abcdef"
listen = ["*:8000", "unix:/run/gateway", "[::1]:8001"]
[namespaces.room]
allow_publish = ["client"]
[namespaces."pets.all"]
[namespaces.other]
[namespaces.free]
"""


@pytest.fixture
def document(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "models_of_schema.py").write_text(MODELS)
    (tmp_path / "gateway.toml").write_text(SETTINGS)
    monkeypatch.syspath_prepend(tmp_path)
    result = run("schema", "--hooks", "models_of_schema:hooks")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def payload_errors(document: Any, namespace: str, data: Any) -> list[str]:
    """What a validator of draft 7 says of a payload, by the document alone."""
    schema = {**document["components"]["messages"][namespace]["payload"], "components": document["components"]}
    return [each.message for each in jsonschema.Draft7Validator(schema).iter_errors(data)]


def test_channels_and_operations(document: Any) -> None:
    """Clients may publish where the rules or a hook may let them."""
    assert document["asyncapi"] == "3.0.0"
    assert {name: each["address"] for name, each in document["channels"].items()} == {
        "no_namespace": "{name}",
        "free": "free:{name}",
        "other": "other:{name}",
        "pets.all": "pets.all:{name}",
        "room": "room:{name}",
    }
    assert [name for name, each in document["operations"].items() if each["action"] == "receive"] == [
        "receive.other",
        "receive.room",
    ]
    assert sum(each["action"] == "send" for each in document["operations"].values()) == 5
    assert document["operations"]["receive.room"]["channel"] == {"$ref": "#/channels/room"}
    assert "payload" not in document["components"]["messages"]["free"]


def test_servers(document: Any) -> None:
    """Those that this machine reaches; a node with a key asks for a token."""
    servers = document["servers"].values()
    assert [each["host"] for each in servers] == ["127.0.0.1:8000", "[::1]:8001"]
    assert [each["security"] for each in servers] == [[{"$ref": "#/components/securitySchemes/token"}]] * 2


FITTING: list[tuple[str, Any]] = [
    ("room", {"type": "Line", "text": "hi", "author": {"name": "ann"}}),
    ("room", {"type": "Image", "size": [1, 2]}),
    ("pets.all", {"kind": "cat", "kittens": [{"kind": "cat"}]}),
    ("pets.all", {"kind": "dog", "at": [1.5, "x"]}),
    ("other", {"author": {"name": "ann"}}),
    ("no_namespace", [1]),
]
MISFITS: list[tuple[str, Any]] = [
    ("room", {"type": "Line", "text": 1}),
    ("room", {"type": "Line", "text": "hi", "author": {}}),
    ("room", {"type": "Image", "size": [1, "x"]}),
    ("room", {"type": "Image", "size": [1, 2, 3]}),
    ("pets.all", {"kind": "cat", "kittens": [{"kind": "cow"}]}),
    ("other", {"author": {}}),
    ("no_namespace", ["x"]),
]


def test_payloads_are_judged_as_the_gateway_does(document: Any) -> None:
    assert [case for case in FITTING if payload_errors(document, *case)] == []
    assert [case for case in MISFITS if not payload_errors(document, *case)] == []


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [
            *([value["$ref"]] if isinstance(value.get("$ref"), str) else []),
            *(name for each in value.values() for name in references(each)),
        ]
    return [name for each in value for name in references(each)] if isinstance(value, list) else []


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = references(document)
    assert found
    for reference in found:
        at = document
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]


def test_it_is_an_asyncapi_document(document: Any) -> None:
    """By the JSON Schema of the specification's authors."""
    path = SDK_FOLDER / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
    if not path.is_file():
        pytest.skip("needs the npm packages: make tests/sdk/node_modules")
    jsonschema.Draft7Validator(json.loads(path.read_text())).validate(document)


def test_names_of_fields_are_left_alone() -> None:
    """Also of those that are called as a keyword is."""

    class Odd(msgspec.Struct):
        prefixItems: int
        discriminator: str

    schema = msgspec.json.schema(Odd)
    assert draft_7(schema) == schema


APPLICATION = """
from gateway import Gateway, Hooks

hooks = Hooks()
hooks.payload("room", int)
settings = {"namespaces": {"room": {}}, "auth": {"hmac_secret": "0123456789abcdef0123456789abcdef"}}
app = Gateway(settings, hooks=hooks)

@hooks.connect(cookies=False)
async def log_in(request):
    ...
"""


def test_an_application(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings and hooks. Only it knows what a client has to show when it connects."""
    monkeypatch.setattr("gateway.embedding._made", [])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "application_of_schema.py").write_text(APPLICATION)
    found = json.loads(run("schema", "--app", "application_of_schema:app").stdout)
    assert found["components"]["messages"]["room"]["payload"] == {"type": "integer"}
    assert "securitySchemes" not in found["components"]


def test_without_hooks_and_errors(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hooks the channels are printed as well; a model of no namespace is an error."""
    found = json.loads(run("schema").stdout)
    assert list(found["channels"]) == ["no_namespace"]
    assert "securitySchemes" not in found["components"]
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "models_astray.py").write_text("from gateway import Hooks\nhooks = Hooks()\nhooks.payload('rom', int)")
    result = run("schema", "--hooks", "models_astray:hooks")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: hooks.payload: there is no namespace 'rom' (namespaces.rom)\n"
    (tmp_path / "models_none.py").write_text("from gateway import Hooks\nhooks = Hooks()\nhooks.payload('', 5)")
    result = run("schema", "--hooks", "models_none:hooks")
    assert "models_none cannot be imported: TypeError: 5 cannot be a model of payloads" in result.stderr
