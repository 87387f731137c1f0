"""Typed payloads: what models say of JSON, and what whole nodes make of it."""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, NewType, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from gateway.client import commands
from gateway.errors import BAD_COMMAND, ConfigError, RequestError
from gateway.hooks import Hooks, PublishRequest, PublishResult, RpcRequest
from gateway.hooks.payloads import LONGEST, Payloads, json_of_text, payload_of
from gateway.json_text import MAX_DEPTH
from gateway.messages import Connect, Kind, Subscribe
from gateway.testing import Refused, TestGateway
from tests.session.conftest import World


class Author(msgspec.Struct):
    name: str


class Line(msgspec.Struct):
    text: str
    author: Author | None = None
    tags: dict[str, int] = {}
    kids: "list[Line]" = []


class PydanticAuthor(BaseModel):
    name: str


class PydanticLine(BaseModel):
    model_config = ConfigDict(strict=True)
    text: str
    author: PydanticAuthor | None = None
    tags: dict[str, int] = {}
    kids: "list[PydanticLine]" = []


@dataclasses.dataclass
class DataAuthor:
    name: str


@dataclasses.dataclass
class DataLine:
    text: str
    author: DataAuthor | None = None
    tags: dict[str, int] = dataclasses.field(default_factory=dict)
    kids: "list[DataLine]" = dataclasses.field(default_factory=list)


class TypedAuthor(TypedDict):
    name: str


class TypedLine(TypedDict, total=False):
    text: str
    author: TypedAuthor | None


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    text: str


MODELS = [Line, PydanticLine, TypeAdapter(PydanticLine), DataLine, TypeAdapter(DataLine)]
"""Each has `text`, a nested `author`, a dictionary and a list of its own kind."""


class Faults(list[str]):
    """Names of models that failed."""


def error_of(model: Any, data: bytes, kind: Kind = Kind.JSON, faults: list[str] | None = None) -> str | None:
    """What a client would be told."""
    found = Payloads([payload_of("room", model)], (faults if faults is not None else []).append)
    error = found.find_error("room", kind, data)
    return None if error is None else f"{error.error.code} {error.error.message}"


@pytest.mark.parametrize("model", MODELS, ids=str)
class TestModels:
    """The same of every kind of model."""

    @pytest.mark.parametrize(
        "data",
        [
            b'{"text":"hi"}',
            b'{"text":"hi","author":{"name":"ann"},"tags":{"a":1},"kids":[{"text":"yes"}]}',
            b'{"text":"hi","author":null,"unknown":[1,2,{"deep":3}]}',
            '{"text":"größer \\ud83d\\ude00"}'.encode(),
        ],
    )
    def test_what_fits_is_accepted(self, model: Any, data: bytes) -> None:
        """Unknown fields too, unless the model forbids them."""
        assert error_of(model, data) is None

    @pytest.mark.parametrize(
        ("data", "field"),
        [
            (b"{}", "text"),
            (b'{"text":1}', "text"),
            (b'{"text":null}', "text"),
            (b'{"text":"hi","author":"ann"}', "author"),
            (b'{"text":"hi","author":{"name":[]}}', "author.name"),
            (b'{"text":"hi","author":{}}', "name"),
            (b'{"text":"hi","kids":[{"text":"a"},{"text":2}]}', "kids[1].text"),
            (b'{"text":"hi","tags":{"a":"b"}}', "tags"),
            (b'{"text":"hi","tags":{"a":1e400}}', "tags"),
            (b'{"text":"hi","tags":{"a":1.5}}', "tags"),
            (b'{"text":"hi","tags":{"a":%b}}' % (b"9" * 5000), ""),
            (b"[]", "object"),
            (b'"text"', "object"),
            (b"null", "object"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_the_field_named(self, model: Any, data: bytes, field: str) -> None:
        error = error_of(model, data)
        assert error is not None
        assert error.startswith("107 bad request: payload: ")
        assert "`" not in error
        assert field in error or (field == "object" and "dictionary" in error)

    def test_json_as_deep_as_it_may_be(self, model: Any) -> None:
        deep = (MAX_DEPTH // 2 - 1) * b'{"text":"a","kids":['
        assert error_of(model, deep + deep.count(b"[") * b"]}") is None
        error = error_of(model, b'{"text":"a","kids":' + (MAX_DEPTH - 2) * b"[" + (MAX_DEPTH - 2) * b"]" + b"}")
        assert error is not None
        assert error.startswith("107")

    def test_only_json_fits(self, model: Any) -> None:
        assert error_of(model, b'{"text":"hi"}', Kind.BINARY) == "107 bad request: payload: expected JSON, got binary"
        assert error_of(model, b'{"text":"hi"}', Kind.TEXT) == "107 bad request: payload: expected JSON, got text"

    def test_errors_stay_short(self, model: Any) -> None:
        """Whatever a client puts into them, and however many there are."""
        items = b",".join([b'"%b":[]' % (b"%d" % number * 90) for number in range(900)])
        error = error_of(model, b'{"text":"hi","tags":{%b}}' % items)
        assert error is not None
        assert len(error) < LONGEST + 50

    def test_its_schema_names_the_fields(self, model: Any) -> None:
        schema, named = payload_of("room", model).schema("#/components/schemas/room.{name}")
        text = json.dumps([schema, named])
        assert '"author"' in text
        assert "#/components/schemas/room." in text
        assert "$defs" not in text


@pytest.mark.parametrize(
    ("model", "data", "error"),
    [
        (Line, b'{"text":1}', "text: expected str, got int"),
        (Line, b"{}", "object missing required field text"),
        (Line, b'{"text":"a","author":{}}', "author: object missing required field name"),
        (dict[int, str], b'{"a":"b"}', "value (key): expected int, got str"),
        (list[int], b"[1,null]", "[1]: expected int, got null"),
        (Strict, b'{"text":"a","more":1}', "object contains unknown field more"),
        (TypedLine, b'{"text":[]}', "text: expected str, got array"),
        (PydanticLine, b'{"text":1}', "text: input should be a valid string"),
        (PydanticLine, b'{"text":"a","kids":[{}]}', "kids[0].text: field required"),
        (TypeAdapter(list[int]), b"[" + b"null," * 200 + b"0]", "200 values are wrong"),
    ],
)
def test_the_words_of_errors(model: Any, data: bytes, error: str) -> None:
    """Those of the libraries, in one form."""
    assert error_of(model, data) == f"107 bad request: payload: {error}"


def test_constraints_are_never_skipped() -> None:
    """Types with a constraint of pydantic, however deep, are for pydantic; those of msgspec for msgspec."""
    Positive = Annotated[int, Field(gt=0)]
    Named = NewType("Named", Positive)

    @dataclasses.dataclass
    class Outer:
        inner: list[dict[str, Positive]]

    @pydantic.dataclasses.dataclass
    class Own:
        value: pydantic.PositiveInt

    @dataclasses.dataclass
    class WithModel:
        line: PydanticLine

    for model, bad, good in (
        (Outer, b'{"inner":[{"a":0}]}', b'{"inner":[{"a":1}]}'),
        (Own, b'{"value":-1}', b'{"value":1}'),
        (Positive, b"0", b"1"),
        (Named, b"0", b"1"),
        (WithModel, b'{"line":{}}', b'{"line":{"text":"a"}}'),
        (Annotated[int, msgspec.Meta(gt=0)], b"0", b"1"),
    ):
        assert error_of(model, good) is None
        assert str(error_of(model, bad)).startswith("107")


def test_a_struct_has_no_constraints_of_pydantic() -> None:
    """Nobody would check them."""

    class Direct(msgspec.Struct):
        value: Annotated[int, Field(gt=0)]

    class Inner(msgspec.Struct):
        values: list[Direct]

    for model in (Direct, Inner):
        with pytest.raises(TypeError, match=r"constraint of pydantic.*msgspec\.Meta"):
            payload_of("", model)


def test_constraints_are_found_behind_many_other_types() -> None:
    """Hints are evaluated anew each time they are asked for, and what one asks for next may have the same id."""
    plain = [
        dataclasses.make_dataclass(f"Plain{number}", [("a", "list[dict[str, int]]"), ("b", "dict[str, list[int]]")])
        for number in range(40)
    ]
    last = dataclasses.make_dataclass("Last", [("x", "list[Annotated[int, pydantic.Field(gt=0)]]")])
    for each in (*plain, last):
        each.__module__ = __name__
    outer = dataclasses.make_dataclass("Outer", [*((each.__name__, each) for each in plain), ("last", last)])
    value: dict[str, Any] = {each.__name__: {"a": [], "b": {}} for each in plain}
    assert error_of(outer, json.dumps({**value, "last": {"x": [1]}}).encode()) is None
    assert str(error_of(outer, json.dumps({**value, "last": {"x": [0]}}).encode())).startswith("107")


def test_what_cannot_be_a_model_is_refused() -> None:
    """Where it is declared."""

    class Plain:
        pass

    class Holder(msgspec.Struct):
        plain: Plain

    class Lost(BaseModel):
        other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    values = (Plain, Holder, Lost, 5, "Line", None, print, Line("a"), PydanticLine(text="a"), DataLine("a"))
    for model in values:
        with pytest.raises(TypeError, match="cannot be a model of payloads"):
            Hooks().payload("room", model)
    with pytest.raises(TypeError, match="takes the name of a namespace, then the model"):
        Hooks().payload(Line, "room")  # type: ignore[arg-type]
    hooks = Hooks()
    hooks.payload("room", Line)
    with pytest.raises(ValueError, match="there is a payload model for 'room' already"):
        hooks.payload("room", PydanticLine)


class Failing(BaseModel):
    how: str

    @field_validator("how")
    @classmethod
    def fail(cls, how: str) -> str:
        match how:
            case "value":
                raise ValueError("none of these")
            case "type":
                raise TypeError("not this type")
            case "exit":
                raise SystemExit(3)
            case "recursion":
                return cls.fail(how)
            case "panic":
                raise BaseException("panic")
        return how


@pytest.mark.parametrize("how", ["type", "exit", "recursion", "panic"])
def test_a_model_that_fails_is_a_fault_of_the_application(how: str) -> None:
    """Temporary error 100, and the model's name for the log; a ValueError refuses."""
    faults: list[str] = []
    payload = b'{"how":"%b"}' % how.encode()
    assert error_of(Failing, payload, faults=faults) == "100 internal server error"
    assert faults == [f"{__name__}.Failing"]
    assert error_of(Failing, b'{"how":"value"}') == "107 bad request: payload: how: value error, none of these"


def test_text_is_read_as_json() -> None:
    assert json_of_text(b'{\n"a":"\\ud83d"}') == b'{ "a":"\\ufffd"}'
    for text in (b"hello", b"", b"[" * 200 + b"]" * 200, b"NaN"):
        with pytest.raises(RequestError, match="bad request: payload: not JSON: "):
            json_of_text(text)


# Whole nodes


class Event(msgspec.Struct):
    at: datetime
    id: UUID


class Aliased(BaseModel):
    text: str = Field(alias="t")


SETTINGS: dict[str, Any] = {
    "namespaces": {
        name: {"allow_publish": ["client"], "allow_subscribe": ["client"]}
        for name in ("room", "event", "free", "failing", "aliased")
    },
    "channels": {"allow_publish": ["client"]},
}
BAD_TEXT = "bad request: payload: text: expected str, got int"


def application() -> Hooks:
    hooks = Hooks()
    hooks.payload("room", Line)
    hooks.payload("event", Event)
    hooks.payload("failing", Failing)
    hooks.payload("aliased", Aliased)
    return hooks


def run(test: Callable[[TestGateway], Coroutine[Any, Any, None]], hooks: Hooks | None = None) -> None:
    async def main() -> None:
        async with TestGateway(SETTINGS, hooks=hooks or application()) as gateway:
            await test(gateway)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_publishes_of_clients() -> None:
    """A bad one is refused with the name of the field; the connection stays. Other namespaces take anything."""

    async def test(gateway: TestGateway) -> None:
        ann = await gateway.connect("ann")
        with pytest.raises(Refused) as refused:
            await ann.publish("room:1", {"text": 1})
        assert (refused.value.code, refused.value.message) == (107, BAD_TEXT)
        with pytest.raises(Refused, match="100 internal server error"):
            await ann.publish("failing:1", {"how": "type"})
        assert gateway.composition.metrics.faults.values == {"payload": 1}
        for channel, data in (("room:1", {"text": "hi", "more": [1]}), ("free:1", [1]), ("news", "text")):
            await ann.publish(channel, data)
        assert [each.data for each in gateway.published] == [{"text": "hi", "more": [1]}, [1], "text"]

    run(test)


def test_publishes_of_the_application() -> None:
    """Alone, in a broadcast and in a batch: models, dataclasses, datetime and UUID are taken, and checked."""
    now, id = datetime(2030, 1, 1, tzinfo=UTC), UUID(int=7)

    async def test(gateway: TestGateway) -> None:
        for line in (
            Line("hi"),
            PydanticLine(text="hi"),
            DataLine("hi"),
            {"text": "hi"},
            msgspec.Raw(b'{"text":"hi"}'),
        ):
            await gateway.publish("room:1", line)
        for event in (Event(now, id), {"at": now, "id": id}):
            await gateway.publish("event:1", event)
        await gateway.publish("aliased:1", Aliased(t="hi"))
        assert [each.data["text"] for each in gateway.published[:5]] == ["hi"] * 5
        assert [each.data["id"] for each in gateway.published[5:7]] == [str(id)] * 2
        gateway.published.clear()
        with pytest.raises(RequestError, match=BAD_TEXT) as refused:
            await gateway.publish("room:1", {"text": 1})
        assert refused.value.error.code == 107
        with pytest.raises(RequestError, match="payload: expected JSON, got binary"):
            await gateway.publish("room:1", b'\xff{"text":1}')
        with pytest.raises(RequestError, match=r"the payload model .*Failing failed"):
            await gateway.publish("failing:1", {"how": "type"})
        responses = (await gateway.broadcast(["room:1", "free:1", "room:2", "nowhere:1"], Event(now, id))).responses
        assert [each.error and each.error.code for each in responses] == [107, None, 107, 102]
        lines: list[Any] = [Line("one"), {}, DataLine("two")]
        batch = [commands.publish("room:1", each) for each in lines]
        replies = (await gateway.batch([*batch, commands.broadcast(["event:1"], {})])).replies
        assert [each.error and each.error.message for each in replies[:3]] == [
            None,
            "bad request: payload: object missing required field text",
            None,
        ]
        assert replies[3].broadcast is not None
        assert [each.error and each.error.code for each in replies[3].broadcast.responses] == [107]
        assert [each.data["text"] for each in gateway.published[1:]] == ["one", "two"]

    run(test)


def test_a_broadcast_is_checked_once_for_each_namespace() -> None:
    """Not once for each of 10,000 channels."""
    checked: list[str] = []

    class Counting(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def count(cls, text: str) -> str:
            checked.append(text)
            return text

    hooks = Hooks()
    hooks.payload("room", Counting)
    hooks.payload("", Counting)

    async def test(gateway: TestGateway) -> None:
        await gateway.broadcast(["room:1", "room:2", "news", "other", "free:1"], {"text": "hi"})
        assert checked == ["hi", "hi"]
        assert len(gateway.published) == 5

    run(test, hooks)


def test_hooks_get_and_return_models() -> None:
    """A publish hook is asked about what fits only. What it returns has to fit as well."""
    hooks = application()
    asked: list[Any] = []

    @hooks.publish("room")
    async def improve(request: PublishRequest) -> PublishResult:
        asked.append(request.payload)
        text = request.payload.text
        return PublishResult(data={"text": 5} if text == "spoil" else Line(text.upper()))

    @hooks.publish()
    async def allow(request: PublishRequest) -> bool:
        asked.append(request.payload)
        return True

    @hooks.rpc("say")
    async def say(request: RpcRequest) -> str:
        try:
            await hooks.gateway.publish("room:1", request.data)
        except RequestError as error:
            return str(error)
        return "said"

    async def test(gateway: TestGateway) -> None:
        ann = await gateway.connect("ann")
        with pytest.raises(Refused, match="107"):
            await ann.publish("room:1", {})
        with pytest.raises(Refused, match="100 internal server error"):
            await ann.publish("room:1", {"text": "spoil"})
        await ann.publish("room:1", {"text": "hi"})
        await ann.publish("free:1", 3)
        assert asked == [Line("spoil"), Line("hi"), None]
        assert [each.data for each in gateway.published] == [
            {"text": "HI", "author": None, "tags": {}, "kids": []},
            3,
        ]
        assert await ann.rpc("say", {"text": 1}) == BAD_TEXT
        assert await ann.rpc("say", {"text": "a"}) == "said"

    run(test, hooks)


def test_models_fit_the_settings() -> None:
    hooks = Hooks()
    hooks.payload("rom", Line)
    with pytest.raises(ConfigError, match=r"hooks.payload: there is no namespace 'rom' \(namespaces.rom\)"):
        run(lambda gateway: asyncio.sleep(0), hooks)


def test_without_models_nothing_is_checked() -> None:
    async def test(gateway: TestGateway) -> None:
        assert gateway.composition._services.payloads is None

    run(test, Hooks())


class TestSessions:
    """What sessions make of them."""

    @pytest.fixture
    def world(self) -> World:
        everybody = ["client", "anonymous"]
        world = World(namespaces={"closed": {"allow_publish": everybody, "allow_subscribe": everybody}})
        world.services.payloads = Payloads([payload_of("closed", Line)], lambda name: None)
        return world

    def test_what_is_published_are_the_bytes_of_the_client(self, world: World) -> None:
        """With their white space, their order and their unknown fields."""
        client = world.connect()
        client.raw(b'{"id":2,"publish":{"channel":"closed:1","data":{ "x" : 1.0, "text":"\\u0061" }}}')
        ((publication, _),) = world.broker.published
        assert publication.data == b'{ "x" : 1.0, "text":"\\u0061" }'

    def test_permission_comes_first(self, world: World) -> None:
        """Who may not publish learns nothing of models."""
        world.services.payloads = Payloads([payload_of("own", Line)], lambda name: None)
        (reply,) = world.connect().send({"id": 2, "publish": {"channel": "own:1", "data": {}}})
        assert reply["error"]["code"] == 103

    def test_plain_clients(self, world: World) -> None:
        """A text that is JSON is published as JSON; any other closes, since there are no replies."""
        plain = world.open_plain(Connect(1), Subscribe(2, "closed:1"), channel="closed:1")
        plain.raw(b'{"text":\n"hi"}')
        ((publication, _),) = world.broker.published
        assert (publication.kind, publication.data) == (Kind.JSON, b'{"text": "hi"}')
        for data, binary, reason in (
            (b'{"text":1}', False, BAD_TEXT),
            (b"hello", False, "bad request: payload: not JSON: "),
            (b'{"text":"hi"}', True, "bad request: payload: expected JSON, got binary"),
        ):
            plain = world.open_plain(Connect(1), Subscribe(2, "closed:1"), channel="closed:1")
            plain.raw(data, binary=binary)
            closed = plain.closed_with()
            assert closed is not None
            assert closed.code == BAD_COMMAND.code
            assert closed.reason.startswith(reason)
        assert len(world.broker.published) == 1
        plain = world.open_plain(Connect(1), Subscribe(2, "news"), channel="news")
        plain.raw(b"hello")
        assert world.broker.published[1][0].kind is Kind.TEXT
