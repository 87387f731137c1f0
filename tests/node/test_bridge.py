"""What services emit, as publications."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.broker.base import Dialect, PublishDone
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.errors import BAD_REQUEST, BrokerUnavailable, RequestError
from gateway.hooks.payloads import Payloads
from gateway.messages import PUBLISHED, Channel, Kind, Publication, PublishOptions, PublishResult
from gateway.metrics import Metrics
from gateway.node.bridge import Bridge

CLIENT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
KEPT = {"delivery": "recoverable", "history_size": 7}


class Silence:
    """Emitters of whom nothing comes."""

    def start(self, heard: Callable[[Dialect, bytes], None]) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError


class Bench:
    """A bridge, and what it has published."""

    def __init__(self, payloads: Payloads | None = None, **settings: Any) -> None:
        self.published: list[tuple[Publication, PublishOptions]] = []
        self.outcome: PublishResult | RequestError = PUBLISHED
        self.metrics = Metrics()
        self.settings = ServerSettings.model_validate(settings)
        self.bridge = Bridge(
            Silence(),
            self._publish,
            Channels(self.settings),
            payloads,
            lambda: self.settings,
            lambda: 12.5,
            self.metrics,
        )

    def _publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        self.published.append((publication, options))
        done(self.outcome)

    def emit(self, *data: Any, rooms: Any = (), excepted: Any = ()) -> None:
        """As `@socket.io/redis-emitter`."""
        packet = {"type": 2, "data": ["news", *data], "nsp": "/"}
        message = ["emitter", packet, {"rooms": rooms, "except": excepted, "flags": {}}]
        self.bridge.take(Dialect.EMITTER, msgspec.msgpack.encode(message))

    def call(self, **message: Any) -> None:
        """As a manager of python-socketio."""
        self.bridge.take(Dialect.MANAGER, msgspec.json.encode({"method": "emit", "event": "news", **message}))

    @property
    def channels(self) -> list[str]:
        return [publication.channel.name for publication, _ in self.published]


def test_a_room_is_a_channel_with_its_options() -> None:
    bench = Bench(namespaces={"kept": KEPT})
    bench.emit({"a": 1}, rooms=["kept:a"], excepted=[CLIENT])
    bench.call(data=["x"], room="b")
    (first, options), (second, _) = bench.published
    assert first == Publication(
        Channel("default", "kept:a"), b'{"a":1}', time=12_500, event="news", exclude_client=CLIENT
    )
    assert options.history is not None
    assert options.history.size == 7
    assert second == Publication(Channel("default", "b"), b'"x"', time=12_500, event="news")
    assert bench.metrics.emitted.value == 2
    assert bench.metrics.emitted_dropped.values == {}


def test_several_rooms_get_one_publication_each() -> None:
    """Also if one of them cannot be a channel."""
    bench = Bench()
    bench.emit(b"\x00", rooms=["a", "white space", "nowhere:b", "c"])
    assert bench.channels == ["a", "c"]
    assert bench.published[0][0].kind is Kind.BINARY
    assert bench.metrics.emitted_dropped.values == {"channel": 2}


def test_everybody_has_a_channel_or_gets_nothing() -> None:
    with_one, without = Bench(socketio={"everyone": "all"}), Bench()
    for bench in (with_one, without):
        bench.emit(1)
        bench.call(data=[1])
    assert with_one.channels == ["all", "all"]
    assert without.channels == []
    assert without.metrics.emitted_dropped.values == {"everyone": 2}


def test_a_socket_has_a_channel_of_its_own_or_is_a_room_like_any() -> None:
    with_one, without = Bench(socketio={"own": "socket:"}, namespaces={"socket": {}}), Bench()
    for bench in (with_one, without):
        bench.emit(1, rooms=[CLIENT, "a"])
    assert with_one.channels == [f"socket:{CLIENT}", "a"]
    assert without.channels == [CLIENT, "a"]


def test_the_number_of_rooms_is_bounded() -> None:
    bench = Bench(api={"max_batch": 2})
    bench.emit(1, rooms=["a", "b", "c"])
    assert bench.channels == []
    bench.emit(1, rooms=["a", "b", "a"])
    assert bench.channels == ["a", "b"]
    assert bench.metrics.emitted_dropped.values == {"rooms": 1}


def test_a_model_of_the_namespace_is_asked() -> None:
    def find_error(namespace: str, kind: Kind, data: bytes) -> RequestError | None:
        return None if data == b"1" else RequestError(BAD_REQUEST, "no number")

    payloads = Payloads({}, lambda *_: None)
    payloads.find_error = find_error  # type: ignore[method-assign]  # the models have tests of their own
    bench = Bench(payloads)
    bench.emit("x", rooms=["a"])
    bench.emit(1, rooms=["b"])
    assert bench.channels == ["b"]
    assert bench.metrics.emitted_dropped.values == {"channel": 1}


def test_what_is_dropped_is_counted_and_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            bench.emit(1, 2, rooms=["a"])
            bench.bridge.take(Dialect.MANAGER, b"\x80\x04.")
        bench.outcome = BrokerUnavailable("away")
        bench.emit(1, rooms=["a"])
    assert bench.metrics.emitted_dropped.values == {"arguments": 1000, "pickle": 1000, "publish": 1}
    assert bench.metrics.emitted.value == 0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for word in ("several arguments", "a pickle", "away"):
        assert any(word in line for line in lines)
