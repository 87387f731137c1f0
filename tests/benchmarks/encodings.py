"""What the encodings of the native protocol cost, one beside the other in this process."""

import time
import timeit
from collections.abc import Callable

from gateway.messages import Channel, ClientInfo, Kind, Publication
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol
from gateway.protocols.protobuf_wire import delimited
from tests.benchmarks.measures import PAYLOAD, Row, median

DATA = f'"{PAYLOAD}"'.encode()
IN_JSON = b'{"id":7,"publish":{"channel":"fanout","data":%b}}' % DATA
IN_PROTOBUF = delimited(b"\x08\x07\x3a" + delimited(b"\x0a\x06fanout\x12" + delimited(DATA)))
PUSHED = Publication(
    Channel("default", "fanout"), DATA, info=ClientInfo("ann", "2c1a8e3c-5b0f-4d6e-9d5a-6f1f0c1f7a11"), offset=1000
)


async def encodings(rounds: int = 9, times: int = 20_000) -> list[Row]:
    """CPU per command and per publication (which is written once for all subscribers), in turn; medians."""
    json, protobuf = CentrifugeProtocol(), CentrifugeProtobufProtocol()
    (read,), (again,) = json.decode(IN_JSON, binary=False), protobuf.decode(IN_PROTOBUF, binary=True)
    assert read == again
    assert PUSHED.kind is Kind.JSON
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "read a publish": (
            lambda: json.decode(IN_JSON, binary=False),
            lambda: protobuf.decode(IN_PROTOBUF, binary=True),
        ),
        "write a publication": (lambda: json.events((PUSHED,)), lambda: protobuf.events((PUSHED,))),
        "write a reply": (lambda: json.published(7), lambda: protobuf.published(7)),
    }
    rows = []
    for what, (in_json, in_protobuf) in pairs.items():
        measured = [(_cost(in_json, times), _cost(in_protobuf, times)) for _ in range(rounds)]
        ratios = sorted(theirs / ours for ours, theirs in measured)
        rows += [
            Row(f"CPU to {what} in JSON", f"{median([ours for ours, _ in measured]):.2f} us"),
            Row("  in Protobuf, same run", f"{median([theirs for _, theirs in measured]):.2f} us"),
            Row("  ratio, pair by pair", f"{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"),
        ]
    sizes = [sum(len(message.data) for message in protocol.events((PUSHED,))) for protocol in (json, protobuf)]
    return [*rows, Row("bytes of a publication in JSON, in Protobuf", f"{sizes[0]}, {sizes[1]}")]


def _cost(action: Callable[[], object], times: int) -> float:
    """Microseconds of CPU."""
    return timeit.timeit(action, timer=time.process_time, number=times) / times * 1e6
