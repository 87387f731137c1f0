"""The native protocol in each of its encodings, as dictionaries: Protobuf by the generated classes of an SDK."""

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from centrifuge.protocol import client_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from gateway.messages import Request
from gateway.protocols.centrifuge import CentrifugeProtocol, SilentCentrifugeProtocol
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol, SilentCentrifugeProtobufProtocol
from gateway.protocols.protobuf_wire import delimited, varint
from gateway.protocols.wire_protocol import Message

PREFIX = "centrifugal.centrifuge.protocol"
# Fields of client.proto (centrifugal/protocol 0.23) that the SDK does not know yet.
NEWER = {
    "SubscribeRequest": {15: "int32 type", 16: "int32 phase", 17: "string cursor", 18: "int32 limit", 19: "bool asc"},
    "PublishRequest": {3: "int32 type", 4: "string key", 5: "bool removed"},
    "SubRefreshRequest": {3: "int32 type", 4: "TrackBatch[] track", 5: "string[] untrack"},
    "ConnectRequest": {7: "int64 flag", 8: "string dict", 9: "string profile"},
    "Publication": {14: "string epoch"},
    "KeyedItem": {1: "string key", 2: "uint64 version"},
    "TrackBatch": {1: "string signature", 2: "KeyedItem[] items"},
}


def _schema() -> DescriptorPool:
    """The schema of the SDK with the newer fields."""
    file = FileDescriptorProto.FromString(client_pb2.DESCRIPTOR.serialized_pb)
    known = {each.name: each for each in file.message_type}
    for name, fields in NEWER.items():
        kind = known[name] if name in known else file.message_type.add(name=name)
        for number, declared in fields.items():
            if all(field.number != number for field in kind.field):
                _declare(kind.field.add(number=number), declared)
    pool = DescriptorPool()
    pool.Add(file)
    return pool


def _declare(field: FieldDescriptorProto, declared: str) -> None:
    kind, field.name = declared.split()
    field.label = FieldDescriptorProto.LABEL_REPEATED if "[]" in kind else FieldDescriptorProto.LABEL_OPTIONAL
    kind = kind.removesuffix("[]")
    if kind in NEWER:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PREFIX}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


SCHEMA = _schema()
Command = GetMessageClass(SCHEMA.FindMessageTypeByName(f"{PREFIX}.Command"))
Reply = GetMessageClass(SCHEMA.FindMessageTypeByName(f"{PREFIX}.Reply"))

NativeProtocol = CentrifugeProtocol | CentrifugeProtobufProtocol


class Encoding(ABC):
    """One end of the protocol: what a client writes and reads."""

    protocol: NativeProtocol
    silent: NativeProtocol
    binary: bool

    @abstractmethod
    def written(self, command: dict[str, Any]) -> bytes:
        """A command as its client writes it."""

    @abstractmethod
    def frame(self, *commands: dict[str, Any]) -> bytes:
        """Several commands in one frame."""

    @abstractmethod
    def replies(self, frame: bytes) -> list[Any]:
        """The replies and pushes of a frame, comparable to `reply`."""

    @abstractmethod
    def reply(self, expected: dict[str, Any]) -> Any:
        """A reply or push, given as its JSON."""


def requests_of(encoding: Encoding, *commands: dict[str, Any]) -> list[Request]:
    """What commands in one frame are to the session."""
    frame = encoding.frame(*commands)
    requests: list[Request] = []
    start = 0
    while start < len(frame):
        command, start = encoding.protocol.cut(frame, start)
        requests += encoding.protocol.decode(command, binary=encoding.binary)
    return requests


def told(encoding: Encoding, messages: Sequence[Message]) -> list[Any]:
    """All replies and pushes in the messages."""
    assert all(message.binary is encoding.binary for message in messages)
    return [reply for message in messages for reply in encoding.replies(message.data)]


class JsonEncoding(Encoding):
    protocol: NativeProtocol = CentrifugeProtocol()
    silent: NativeProtocol = SilentCentrifugeProtocol()
    binary = False

    def written(self, command: dict[str, Any]) -> bytes:
        return json.dumps(command, separators=(",", ":")).encode()

    def frame(self, *commands: dict[str, Any]) -> bytes:
        return b"\n".join(map(self.written, commands))

    def replies(self, frame: bytes) -> list[Any]:
        return [json.loads(line) for line in frame.split(b"\n")]

    def reply(self, expected: dict[str, Any]) -> Any:
        return expected


class ProtobufEncoding(Encoding):
    protocol: NativeProtocol = CentrifugeProtobufProtocol()
    silent: NativeProtocol = SilentCentrifugeProtobufProtocol()
    binary = True

    def written(self, command: dict[str, Any]) -> bytes:
        return delimited(command_of(command).SerializeToString())

    def frame(self, *commands: dict[str, Any]) -> bytes:
        return b"".join(map(self.written, commands))

    def replies(self, frame: bytes) -> list[Any]:
        found, at = [], 0
        while at < len(frame):
            size, at = varint(frame, at)
            found.append(Reply.FromString(frame[at : at + size]))
            at += size
        return found

    def reply(self, expected: dict[str, Any]) -> Any:
        return ParseDict(_with_bytes(Reply.DESCRIPTOR, expected), Reply())


def command_of(command: dict[str, Any]) -> Any:
    """A command as the SDK's class; payloads become JSON."""
    return ParseDict(_with_bytes(Command.DESCRIPTOR, command), Command())


def _with_bytes(kind: Descriptor, value: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a message as Protobuf's own JSON has it: bytes in base64."""
    return {name: _converted(kind.fields_by_name[name], each) for name, each in value.items()}


def _converted(field: FieldDescriptor, value: Any) -> Any:
    kind = field.message_type
    if kind is None:
        is_payload = field.type == FieldDescriptor.TYPE_BYTES
        return b64encode(payload(value)).decode() if is_payload else value
    if kind.GetOptions().map_entry:
        return {key: _converted(kind.fields_by_name["value"], each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_bytes(kind, each) for each in value]
    return _with_bytes(kind, value)


def payload(value: Any) -> bytes:
    """Bytes as they are, and anything else as JSON."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


ENCODINGS: dict[str, Encoding] = {"JSON": JsonEncoding(), "Protobuf": ProtobufEncoding()}
