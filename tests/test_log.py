"""Logging: no secrets, no forged lines, no flood."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from gateway import errors, log
from gateway.config.settings import LogSettings
from gateway.errors import Disconnect

SECRET = "s3cr3t-0123456789"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Logging belongs to the process: give pytest its handlers back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", *log.TALKATIVE):
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        logger.filters.clear()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def output(write: Callable[[logging.Logger], None], format: str = "human", level: str = "info", node: str = "") -> str:
    stream = io.StringIO()
    log.configure(LogSettings.model_validate({"level": level, "format": format}), stream, node)
    write(logging.getLogger("gateway.test"))
    return stream.getvalue()


def objects(write: Callable[[logging.Logger], None], **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(write, format="json", **options).splitlines()]


def fail(text: str) -> None:
    raise ValueError(text)


def caught(logger: logging.Logger, text: str) -> None:
    try:
        fail(text)
    except ValueError:
        logger.exception("it failed")
        logger.error("it failed again", stack_info=True)


# Length

LONG = 65_536
# What has made some pattern or other begin anew at every repetition.
UNITS = ["eyJ-", "eyJabcde", "eyJ.", "a.eyJ", "token", "token=", '"token":"', "\"token\":'", "cookie: ", "cookie ",
         "bearer ", "://a", "://a@", "-", ".", " ", '"', "token%3D"]  # fmt: skip


def written_by(text: str, format: str) -> str:
    def write(logger: logging.Logger) -> None:
        logger.info(text, extra={"detail": text, "met": [text]})
        caught(logger, text)

    return output(write, format)


@pytest.mark.parametrize("format", ["human", "json"])
def test_a_line_is_a_line_however_long_what_it_is_about(format: str) -> None:
    """Message, fields and traceback are cut, and say how long they were."""
    text = written_by("x" * LONG, format)
    assert f"({LONG} characters)" in text
    assert max(map(len, text.splitlines())) < 4 * log.LONGEST_TEXT


def test_what_a_client_chose_is_cut(written: "Written") -> None:
    """Its channel, its user, the text of an error about what it sent."""
    written.refusals.refused(
        client="c", user="u" * LONG, channel="eyJ-" * 16_000, operation="subscribe", rule="r" * LONG, setting="s"
    )
    written.refusals.disconnected(client="c", user="u" * LONG, error=Disconnect(errors.BAD_COMMAND, "d" * LONG))
    assert len(written.lines()) == 2
    assert max(map(len, written.stream.getvalue().splitlines())) < 4 * log.LONGEST_CHOSEN


@pytest.mark.parametrize("tail", ["", "x", " ", '"'])
@pytest.mark.parametrize("unit", UNITS)
def test_secrets_are_looked_for_in_linear_time(unit: str, tail: str) -> None:
    """Eight times the text takes some eight times the CPU, and not sixty-four times."""

    def cost(length: int) -> float:
        text = (unit * length)[: length // 2] + (tail or unit) * (length // 2 // len(tail or unit))
        best = float("inf")
        for _ in range(3):
            begin = time.process_time_ns()
            log.scrub(text)
            best = min(best, time.process_time_ns() - begin)
        return best

    assert cost(16_384) < 24 * cost(2_048)


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        f"GET /ws/chat?token={SECRET} HTTP/1.1",
        f"GET /ws/chat?a=b&api_key={SECRET}&c=d",
        f"/connection/sse?cf_connect={SECRET}",
        f"https://example.com/%3Ftoken%3D{SECRET}",
        f"Token={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: apikey {SECRET}",
        f"X-API-Key: {SECRET}",
        f"Cookie: session={SECRET}; token={SECRET}",
        f"Sec-WebSocket-Protocol: bearer, {SECRET}",
        f"headers [(b'authorization', b'Bearer {SECRET}'), (b'host', b'a')]",
        f"headers [(b'sec-websocket-protocol', b'bearer, {SECRET}')]",
        f"{{'cookie': 'a={SECRET}', 'x': 1}}",
        f'{{"token":"{SECRET}","channel":"c"}}',
        f'{{"connect": {{"token": "{JWT}"}}}}',
        f"{{'authorization': 'Bearer {SECRET}'}}",
        f"redis://default:{SECRET}@redis:6379/0",
        f"redis://:{SECRET}@redis:6379/0",
        f"bearer {SECRET}",
        f"the token {JWT} is bad",
        f"cf%3D{JWT}",
        f"x-{JWT}",
        f"a.b/{JWT}",
        f"hmac_secret={SECRET}",
    ],
)
@pytest.mark.parametrize("format", ["human", "json"])
def test_what_looks_like_a_secret_is_not_written(text: str, format: str) -> None:
    """In the message, its arguments, fields, and tracebacks."""
    written = [
        output(lambda logger: logger.info(text), format),
        output(lambda logger: logger.info("%s", text), format),
        output(lambda logger: logger.info("x", extra={"detail": text}), format),
        output(lambda logger: logger.info("x", extra={"detail": [text]}), format),
        output(lambda logger: caught(logger, text), format),
    ]
    for each in written:
        assert "***" in each
        assert SECRET not in each
        assert JWT.rpartition(".")[2] not in each


def test_fields_named_like_secrets_are_hidden_whatever_they_hold() -> None:
    """Somebody will pass one some day."""
    (line,) = objects(lambda logger: logger.info("x", extra={"token": SECRET, "api_key": 5, "user": "42"}))
    assert (line["token"], line["api_key"], line["user"]) == ("***", "***", "42")


@pytest.mark.parametrize(
    "text",
    [
        "invalid token: signature verification failed",
        "a valid subscription token",
        "namespaces.chat.allow_subscribe",
        "token expired, 3 keys tried",
        "listening on http://127.0.0.1:8000",
        "set auth.hmac_secret, auth.public_key or auth.cookie, then try again",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    """A log that hides the reason helps nobody."""
    assert log.scrub(text) == text


# Forged lines


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\x1b[2Jx", "a\x85b", "a\u2028b", "a\u202eb", "a\x00", "\udcff", "\x9b1m"]
)
@pytest.mark.parametrize("format", ["human", "json"])
def test_one_record_is_one_line_of_printable_characters(text: str, format: str) -> None:
    """A client cannot start a line of its own, nor drive the operator's terminal."""
    written = output(lambda logger: logger.info("%s", text, extra={"user": text}), format)
    assert written.endswith("\n")
    assert written.removesuffix("\n").isprintable()


def test_a_traceback_is_indented_on_a_terminal_and_one_field_in_json() -> None:
    """What an exception quotes cannot pass for a line either."""
    text = "x\n12:00:00.000 INFO    forged\x1b[31m"
    lines = output(lambda logger: caught(logger, text)).splitlines()
    own = [line.split("   ")[-1] for line in lines if not line.startswith("    ")]
    assert own == ["it failed", "it failed again"]
    assert all(line.isprintable() for line in lines)
    assert "    12:00:00.000 INFO    forged\\x1b[31m" in lines
    failed, again = objects(lambda logger: caught(logger, text))
    assert failed["exception"].startswith("Traceback")
    assert "ValueError: x\n" in failed["exception"]
    assert again["exception"].startswith("Stack")


@seed(3)
@given(st.text(), st.text())
def test_any_text_comes_back_from_json(message: str, user: str) -> None:
    """Except for secrets, which random text does not hold."""
    (line,) = objects(lambda logger: logger.info("%s", message, extra={"user": user}))
    assert (line["message"], line["user"]) == (message, user)


# Formats


def test_a_terminal_gets_human_lines_and_anything_else_json() -> None:
    """Unless the setting says otherwise."""
    for stream, format, human in [
        (Terminal(), "auto", True),
        (io.StringIO(), "auto", False),
        (Terminal(), "json", False),
        (io.StringIO(), "human", True),
    ]:
        log.configure(LogSettings.model_validate({"format": format}), stream)
        logging.getLogger("gateway").warning("hello")
        assert stream.getvalue().startswith("{") is not human


def test_json_lines_carry_time_level_logger_message_and_fields() -> None:
    """Fields cannot replace these."""
    (line,) = objects(
        lambda logger: logger.info("n %d", 1, extra={"user": "42", "count": 3, "none": None, "time": 0, "level": 9}),
        node="n1",
    )
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "gateway.test",
        "message": "n 1",
        "node": "n1",
        "user": "42",
        "count": 3,
        "none": None,
    }


def test_human_lines_end_with_the_fields() -> None:
    """Quoted where they hold spaces, quotes or nothing."""
    line = output(lambda logger: logger.info("hello", extra={"user": "4 2", "rule": "a.b", "detail": ""}), node="n1")
    assert line.partition(" ")[2] == 'INFO    hello  node=n1  user="4 2"  rule=a.b  detail=""\n'


def test_the_level_counts_for_all_loggers() -> None:
    """And libraries that log each call stay quiet below warning."""

    def write(logger: logging.Logger) -> None:
        logger.info("hidden")
        logger.warning("shown")
        logging.getLogger("httpx").info("hidden")
        logging.getLogger("asyncio").warning("shown")

    assert [line["message"] for line in objects(write, level="warning")] == ["shown", "shown"]
    assert [line["message"] for line in objects(write)] == ["hidden", "shown", "shown"]
    assert [line["message"] for line in objects(write, level="error")] == []


# uvicorn


def test_within_an_application_nothing_is_lost_and_nothing_written_twice() -> None:
    """Python itself drops what is below a warning, and all fields, as long as nobody handles it."""
    root, logger = logging.getLogger(), logging.getLogger("gateway")
    root.handlers[:] = []
    stream = io.StringIO()
    try:
        for _ in range(2):
            log.configure_within(LogSettings(level="info"), stream)
        logging.getLogger("gateway.test").info("one", extra={"token": SECRET})
        assert stream.getvalue().count("one  token=***") == stream.getvalue().count("\n") == 1
        root.handlers[:] = [logging.StreamHandler(theirs := io.StringIO())]
        logging.getLogger("gateway.test").info("two")
        assert (theirs.getvalue(), "two" in stream.getvalue()) == ("two\n", False)
        logger.handlers.clear()
        log.configure_within(LogSettings(), stream)
        assert logger.handlers == []
    finally:
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)


def test_uvicorn_logs_no_query_strings() -> None:
    """Its lines about WebSocket handshakes are dropped, its access lines are cut and come with debug only."""

    def write(_: logging.Logger) -> None:
        server = logging.getLogger("uvicorn.error")
        server.info('%s - "WebSocket %s" [accepted]', "1.2.3.4:5", f"/ws/c?x={SECRET}")
        server.info('%s - "WebSocket %s" 403', "1.2.3.4:5", f"/ws/c?x={SECRET}")
        server.info("Started server process [%d]", 1, extra={"color_message": "\x1b[36m"})
        access = logging.getLogger("uvicorn.access")
        access.info('%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", f"/health?x={SECRET}", "1.1", 200)
        access.info("%(what)s", {"what": "no arguments"})

    logging.getLogger("uvicorn").addHandler(logging.StreamHandler())
    lines = objects(write)
    assert [(line["logger"], line["message"]) for line in lines] == [("uvicorn.error", "Started server process [1]")]
    assert "color_message" not in lines[0]
    assert not logging.getLogger("uvicorn.access").hasHandlers()
    messages = [line["message"] for line in objects(write, level="debug")]
    assert messages == ["Started server process [1]", '1.2.3.4:5 - "GET /health HTTP/1.1" 200', "no arguments"]


# Refusals


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Written(NamedTuple):
    """A refusal log on a clock that stands still, and the lines it writes."""

    refusals: log.Refusals
    clock: Clock
    stream: io.StringIO

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def refuse(self, client: str, address: str = "") -> None:
        self.refusals.refused(
            client=client, user="", channel="", operation="connect", rule="r", setting="s", address=address
        )


@pytest.fixture
def written() -> Written:
    stream = io.StringIO()
    log.configure(LogSettings(format="json"), stream)
    clock = Clock()
    return Written(log.Refusals(clock=clock), clock, stream)


def test_a_refusal_says_who_what_why_and_what_would_allow_it(written: Written) -> None:
    """The answer to "why did my client not get it?"."""
    written.refusals.refused(
        client="c1",
        user="42",
        channel="chat:1",
        operation="publish",
        rule="allow_publish is empty",
        setting="namespaces.chat.allow_publish",
    )
    written.refusals.disconnected(client="c1", user="42", error=Disconnect(errors.SLOW, "limits.outbox"))
    refused, closed = written.lines()
    del refused["time"], closed["time"]
    assert refused == {
        "level": "info",
        "logger": "gateway.refusals",
        "message": "publish refused",
        "client": "c1",
        "user": "42",
        "channel": "chat:1",
        "rule": "allow_publish is empty",
        "setting": "namespaces.chat.allow_publish",
    }
    assert closed == {
        "level": "info",
        "logger": "gateway.refusals",
        "message": "connection closed",
        "client": "c1",
        "user": "42",
        "code": 3008,
        "reason": "slow",
        "detail": "limits.outbox",
    }


def test_a_client_in_a_loop_does_not_flood_the_log(written: Written) -> None:
    """It gets a few lines a second, others still get theirs, and what was left out is counted."""
    for _ in range(1_000):
        written.refuse("looping")
    written.refuse("other")
    assert [line["client"] for line in written.lines()] == ["looping"] * log.REFUSALS_PER_CLIENT + ["other"]
    assert written.lines()[-1]["suppressed"] == 1_000 - log.REFUSALS_PER_CLIENT
    written.clock.now += 1
    written.refuse("looping")
    assert written.lines()[-1]["client"] == "looping"
    assert "suppressed" not in written.lines()[-1]


def test_many_clients_do_not_flood_the_log_either(written: Written) -> None:
    """The node has a limit of its own; clients without an id yet are told apart by address."""
    for number in range(1_000):
        written.refuse("", address=f"10.0.0.{number}")
    assert len(written.lines()) == log.REFUSALS_PER_SECOND
    written.clock.now += 1
    written.refuse("", address="10.0.0.1")
    assert written.lines()[-1]["suppressed"] == 1_000 - log.REFUSALS_PER_SECOND


def test_refusals_cost_nothing_where_they_are_not_logged(written: Written) -> None:
    """At level warning neither lines nor counts."""
    logging.getLogger().setLevel(logging.WARNING)
    written.refuse("a")
    logging.getLogger().setLevel(logging.INFO)
    written.refuse("a")
    (line,) = written.lines()
    assert "suppressed" not in line


def test_one_line_an_interval_passes_for_each_kind() -> None:
    """The next one says how many were left out."""
    now = 0.0
    lines = log.LogLimit(5.0, lambda: now)
    assert [lines.passes("a") for _ in range(3)] == [{}, None, None]
    assert lines.passes("b") == {}
    now = 5.0
    assert [lines.passes("a"), lines.passes("b"), lines.passes("b")] == [{"suppressed": 2}, {}, None]
    now = 10.0
    assert [lines.passes("a"), lines.passes("b")] == [{}, {"suppressed": 1}]


def test_a_limit_lets_one_line_pass_for_each_thing_it_is_about() -> None:
    """Two origins that are refused are two mistakes of the operator: one must not hide the other."""
    now = 0.0
    lines = log.LogLimit(5.0, lambda: now)
    assert [lines.passes("origin", about) for about in "aabba"] == [{}, None, {"suppressed": 1}, None, None]
    assert lines.passes("address", "a") == {}
    now = 4.0
    assert lines.passes("origin", "c") == {"suppressed": 2}
    now = 5.0
    assert [lines.passes("origin", about) for about in "abc"] == [{}, {}, None]
    now = 9.0
    assert [lines.passes("origin", about) for about in "abc"] == [None, None, {"suppressed": 3}]


def test_the_last_line_that_passes_says_for_how_long_others_do_not() -> None:
    """Ten that a stranger made up hide the eleventh, which the operator waits for."""
    now = 0.0
    lines = log.LogLimit(60.0, lambda: now)
    assert not any(lines.passes("origin", str(number)) for number in range(log.DISTINCT - 1))
    now = 12.5
    assert lines.passes("origin", "tenth") == {"more": "hidden for 48 s"}
    assert lines.passes("origin", "mine") is None
    now = 60.0
    assert lines.passes("origin", "mine") == {"suppressed": 1}


def test_a_limit_bounds_the_lines_however_many_things_they_are_about() -> None:
    """Clients choose what they are refused for."""
    now = 0.0
    lines = log.LogLimit(5.0, lambda: now)
    for moment in (0.0, 5.0, 10.0):
        now = moment
        passed = [lines.passes("origin", f"{moment} {number}") for number in range(1_000)]
        assert [each is not None for each in passed] == [True] * log.DISTINCT + [False] * (1_000 - log.DISTINCT)
        assert ["more" in (each or {}) for each in passed].index(True) == log.DISTINCT - 1
    assert max(map(len, lines._passed.values())) == log.DISTINCT
