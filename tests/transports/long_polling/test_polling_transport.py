"""Messages in the answers to polls, without requests: what is asked and answered, call by call."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.config.settings import LimitSettings
from gateway.errors import INVALID_TOKEN, SHUTDOWN
from gateway.metrics import Metrics
from gateway.protocols.socketio.engineio_packets import MAX_ANSWERED, first_part
from gateway.transports.admission import Admission
from gateway.transports.drain import Drain
from gateway.transports.long_polling import polling_transport
from gateway.transports.long_polling.polling_transport import PollingTransport, Server
from gateway.transports.socket_transport import ABNORMAL, HIGH_WATER
from tests.fakes import GUARD


class Listener:
    """Writes down what the transport tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def opened(self, transport: object) -> None: ...

    def received(self, data: bytes, *, binary: bool) -> None: ...

    def ponged(self) -> None: ...

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def closed(self, code: int, reason: str) -> None:
        self.told.append((code, reason))

    def shed(self) -> None:
        self.told.append("shed")

    def shutdown(self) -> None:
        self.told.append("shutdown")


class Bench:
    """A transport, its connection, and its place in the admission."""

    def __init__(self, server: Server | None = None) -> None:
        self.connection = Listener()
        self.admission = Admission(LimitSettings(), Metrics())
        self.congested: set[PollingTransport] = set()
        self.place = self.admission.enter("192.0.2.1")
        self.transport = PollingTransport(
            self.connection, self.place, self.congested, part=first_part, nothing=b"nothing", end=b"end", server=server
        )
        self.answers: list[bytes | None] = []

    def poll(self) -> bool:
        return self.transport.poll(self.answers.append)


def in_loop(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs it in a loop."""

    def run() -> None:
        async def started() -> None:
            await scenario(Bench())

        asyncio.run(started())

    run.__doc__ = scenario.__doc__
    return run


async def turn() -> None:
    """All that was to happen soon has happened."""
    for _ in range(3):
        await asyncio.sleep(0)


@in_loop
async def test_a_poll_is_answered_with_all_of_a_turn(bench: Bench) -> None:
    """Whether it was there first or the messages were."""
    assert bench.poll()
    bench.transport.write(b"a")
    bench.transport.write(b"b")
    assert bench.answers == []
    await turn()
    assert bench.answers == [b"ab"]
    bench.transport.write(b"c")
    await turn()
    assert bench.answers == [b"ab"]
    assert bench.poll()
    await turn()
    assert bench.answers == [b"ab", b"c"]


@in_loop
async def test_one_poll_at_a_time(bench: Bench) -> None:
    assert bench.poll()
    assert not bench.poll()


@in_loop
async def test_a_client_that_does_not_poll_is_congested(bench: Bench) -> None:
    """Its connection pauses once, and goes on with the next poll. It has the memory of what was written."""
    for _ in range(3):
        bench.transport.write(b"x" * HIGH_WATER)
    assert bench.connection.told == ["pause"]
    assert bench.congested == {bench.transport}
    assert bench.transport.payer == "192.0.2.1"
    bench.poll()
    await turn()
    assert bench.connection.told == ["pause", "resume"]
    assert bench.congested == set()
    assert bench.answers == [b"x" * 3 * HIGH_WATER]


@in_loop
async def test_the_end_comes_with_the_next_poll(bench: Bench) -> None:
    """After all that was written; nothing follows, and the place is free."""
    bench.transport.write(b"a")
    bench.transport.close(SHUTDOWN, b"goodbye")
    bench.transport.write(b"b")
    bench.transport.close(SHUTDOWN, b"again")
    await turn()
    assert bench.connection.told == []
    bench.poll()
    await turn()
    assert bench.answers == [b"agoodbye"]
    assert bench.connection.told == [tuple(SHUTDOWN)]
    assert bench.admission.total == 0


def test_who_does_not_poll_again_is_gone_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling_transport, "CLOSE_TIMEOUT", 0.01)

    async def scenario() -> None:
        bench = Bench()
        gone = asyncio.Event()
        bench.connection.closed = lambda code, reason: gone.set()  # type: ignore[method-assign]
        bench.transport.close(SHUTDOWN, b"")
        await asyncio.wait_for(gone.wait(), 10)
        assert bench.admission.total == 0

    asyncio.run(scenario())


@in_loop
async def test_only_who_shall_not_come_back_is_told_of_the_end(bench: Bench) -> None:
    """Clients of python-engineio take it for that. For others the connection has just ended."""
    bench.poll()
    bench.transport.close(INVALID_TOKEN, b"")
    await turn()
    assert bench.answers == [b"end"]
    other = Bench()
    other.poll()
    other.transport.close(SHUTDOWN, b"")
    await turn()
    assert other.answers == [None]
    assert other.admission.total == 0


@in_loop
async def test_an_answer_has_few_packets(bench: Bench) -> None:
    """As many as every client takes; the others come with the next polls, and the end after all of them."""
    packets = [b"4%d\x1e" % number for number in range(2 * MAX_ANSWERED + 1)]
    for packet in packets:
        bench.transport.write(packet)
    bench.transport.close(INVALID_TOKEN, b"")
    for _ in range(3):
        bench.poll()
        await turn()
    parts = [packets[:MAX_ANSWERED], packets[MAX_ANSWERED:-1], [*packets[-1:], b"end"]]
    assert bench.answers == [b"".join(part) for part in parts]
    assert bench.connection.told == [tuple(INVALID_TOKEN)]


@in_loop
async def test_a_client_that_has_not_caught_up_stays_congested(bench: Bench) -> None:
    """Until little is left for it to fetch."""
    packet = b"4" + b"x" * (HIGH_WATER // MAX_ANSWERED) + b"\x1e"
    for _ in range(2 * MAX_ANSWERED):
        bench.transport.write(packet)
    assert bench.connection.told == ["pause"]
    bench.poll()
    await turn()
    assert bench.connection.told == ["pause"]
    assert bench.congested == {bench.transport}
    bench.poll()
    await turn()
    assert bench.connection.told == ["pause", "resume"]
    assert bench.answers == [packet * MAX_ANSWERED] * 2


@in_loop
async def test_abort(bench: Bench) -> None:
    """The parked poll is answered; what was written is dropped."""
    bench.poll()
    bench.transport.write(b"a")
    bench.transport.abort()
    await turn()
    assert bench.answers == [None]
    assert bench.connection.told == [(ABNORMAL, "")]
    bench.transport.abort()
    bench.transport.write(b"b")
    assert bench.connection.told == [(ABNORMAL, "")]


@in_loop
async def test_release(bench: Bench) -> None:
    """The connection has moved, and hears nothing more of this transport."""
    bench.poll()
    bench.transport.release(b"goodbye")
    await turn()
    assert (bench.answers, bench.connection.told) == ([b"nothing"], [])
    assert bench.admission.total == 0
    later = Listener()
    bench.transport.drive(later)
    assert later.told == [(ABNORMAL, "")]


@in_loop
async def test_another_connection_is_told_that_nobody_polls(bench: Bench) -> None:
    bench.transport.write(b"x" * (HIGH_WATER + 1))
    later = Listener()
    bench.transport.drive(later)
    assert later.told == ["pause"]


@in_loop
async def test_a_session_that_takes_nothing_delays_answers(bench: Bench) -> None:
    """To what the client sends: it sends no more until it has them. The end does not wait."""
    done: list[int] = []
    bench.transport.pause_reading()
    bench.transport.when_read(lambda: done.append(1))
    assert done == []
    bench.transport.resume_reading()
    assert done == [1]
    bench.transport.when_read(lambda: done.append(2))
    bench.transport.pause_reading()
    bench.transport.when_read(lambda: done.append(3))
    bench.transport.close(SHUTDOWN, b"")
    assert done == [1, 2, 3]


@in_loop
async def test_polls_are_answered_at_once_while_a_websocket_is_probed(bench: Bench) -> None:
    bench.poll()
    bench.transport.hurry(hurries=True)
    await turn()
    bench.poll()
    await turn()
    assert bench.answers == [b"nothing", b"nothing"]
    bench.transport.hurry(hurries=False)
    bench.poll()
    await turn()
    assert len(bench.answers) == 2


@in_loop
async def test_memory_that_others_need(bench: Bench) -> None:
    bench.transport.write(b"x" * (HIGH_WATER + 1))
    bench.transport.shed()
    assert bench.connection.told == ["pause", "shed", (ABNORMAL, "")]
    assert bench.congested == set()


@pytest.mark.parametrize("starts", ["before", "after"])
def test_a_server_that_stops_ends_connections_of_requests_in_progress_as_well(starts: str) -> None:
    """It asks those that it has: one that opens later would hold it up."""

    async def scenario() -> None:
        drain = Drain(0, GUARD)
        server = Server(set(), drain)
        if starts == "before":
            drain.start()
        bench = Bench(server)
        if starts == "after":
            drain.start()
            bench.transport.shutdown()
        await turn()
        await turn()
        assert bench.connection.told == ["shutdown"]

    asyncio.run(scenario())
