"""Logging: human-readable lines on a terminal, otherwise one JSON object per line; no secrets, no forged lines."""

import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from gateway.errors import Disconnect

# Lines about refusals per second: of a node, and of one client, so that one that loops leaves room for the others.
REFUSALS_PER_SECOND = 50
REFUSALS_PER_CLIENT = 5
# Lines of one kind per interval of a LogLimit, when each is about something else.
DISTINCT = 10
# Longest text that a client chose, and longest field, message or line of a traceback, in characters.
LONGEST_CHOSEN = 256
LONGEST_FIELD = 1_024
LONGEST_TEXT = 4_096

_HIDDEN = "***"
_SENSITIVE = r"(?:access_|refresh_)?token|api[_-]?key|x-api-key|password|passwd|hmac_secret|secret|cf_connect"


def _without_token(run: re.Match[str]) -> str:
    start = run[0].find("eyJ")
    return run[0] if start < 0 else run[0][:start] + _HIDDEN


# Each takes linear time: no part of the text is looked at again from a later start.
_SECRETS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # JSON Web Tokens, wherever they stand in a run of such characters
    (re.compile(r"(?<![\w.-])[\w-]++\.[\w.-]*"), _without_token),
    # NAME=value, as in a query string (also percent-encoded)
    (re.compile(rf"(?i)({_SENSITIVE})(=|%3D)[^\s&\"',;)]+"), rf"\1\2{_HIDDEN}"),
    # "NAME": "value", as in JSON or a printed dict
    (re.compile(rf"(?i)([\"'](?:{_SENSITIVE}|authorization|cookie)[\"']\s*:\s*)([\"']).*?\2"), rf"\1\2{_HIDDEN}\2"),
    # headers, printed as text or as a pair of bytes
    (
        re.compile(
            r"(?i)\b(authorization|x-api-key|(?:set-)?cookie|sec-websocket-protocol)"
            r"((?:['\"]?\s*[:=]|['\"],)\s*+b?+['\"]?+)(?!\*\*\*)[^\r\n]+"
        ),
        rf"\1\2{_HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|apikey)\s+[\w.~+/=-]{8,}"), rf"\1 {_HIDDEN}"),
    # redis://user:password@host
    (re.compile(r"(://)[^\s/@\"']+@"), rf"\1{_HIDDEN}@"),
)
_SECRET_FIELD = re.compile(rf"(?i)(?:{_SENSITIVE}|authorization|cookie)")

# Fields of the standard library; all others come from the caller, as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}

# Loggers that write too much below warning: httpx logs every URL it calls.
TALKATIVE = ("httpx", "httpcore", "asyncio", "websockets")


class LogOptions(Protocol):
    """The section `log` of the settings."""

    @property
    def level(self) -> str: ...

    @property
    def format(self) -> str: ...


def configure(options: LogOptions, stream: TextIO, node: str = "") -> None:
    """Send all log records of this process to `stream`, with the name of the node if given.

    uvicorn has to be started with `log_config=None`. Safe to call again: the last call counts.
    """
    human = options.format == "human" or (options.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanFormatter(node) if human else JsonFormatter(node))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options.level.upper())
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    _route_uvicorn(access_log=root.level <= logging.DEBUG)


def configure_within(options: LogOptions, stream: TextIO, node: str = "") -> None:
    """Within an application: send the gateway's own records to `stream`, unless the application handles them itself.

    Otherwise Python would drop those below a warning, and the fields of all. Once the root logger has a handler, this
    one is silent. The text is that for humans, as the lines of the server around it are, unless the format is json.
    """
    logger = logging.getLogger("gateway")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(node) if options.format == "json" else HumanFormatter(node))
    handler.addFilter(lambda record: not logging.getLogger().handlers)
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(options.level.upper())


def _route_uvicorn(*, access_log: bool) -> None:
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.error").addFilter(_is_no_request_line)
    # Without a handler uvicorn does not even build the line (httptools_impl: `hasHandlers`).
    logging.getLogger("uvicorn.access").propagate = access_log
    logging.getLogger("uvicorn.access").addFilter(_cut_query)


def _is_no_request_line(record: logging.LogRecord) -> bool:
    """False for uvicorn's lines about WebSocket handshakes: they hold the query string, and so tokens."""
    return not str(record.msg).startswith('%s - "WebSocket')


def _cut_query(record: logging.LogRecord) -> bool:
    """Access lines end their path before the query string; their arguments are those of uvicorn's h11 and httptools."""
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


def scrub(text: str) -> str:
    """The text with everything masked that looks like a secret. A last line of defence: no code should log one."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def cut(text: str, length: int) -> str:
    """The text, or its first characters and its length."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


def escape(text: str) -> str:
    """The text with characters that are not printable (line breaks, terminal control, bidi marks) escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class _Formatter(logging.Formatter):
    """The common part of both formats: the scrubbed fields of a record."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields that the caller gave as `extra`, and the name of the node."""
        given = {name: _field(name, value) for name, value in vars(record).items() if name not in _STANDARD}
        return {"node": self.node, **given} if self.node else given

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, if any. Its last line may quote a client."""
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(scrub(cut(line, LONGEST_TEXT)) for line in "\n".join(parts).splitlines())


def _field(name: str, value: Any) -> Any:
    if _SECRET_FIELD.fullmatch(name):
        return _HIDDEN
    return value if value is None or isinstance(value, int | float) else scrub(cut(str(value), LONGEST_FIELD))


class JsonFormatter(_Formatter):
    """One JSON object per line, in ASCII, so that no character can end the line or control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(cut(record.getMessage(), LONGEST_TEXT)),
        }
        line |= {name: value for name, value in self.fields(record).items() if name not in line}
        if trace := self.trace(record):
            line["exception"] = trace
        return json.dumps(line)


class HumanFormatter(_Formatter):
    """Time, level, message, fields; a traceback is indented, so that none of its lines looks like another record."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f"  {name}={_quoted(value)}" for name, value in self.fields(record).items())
        line = f"{moment} {record.levelname:7} {escape(scrub(cut(record.getMessage(), LONGEST_TEXT)))}{escape(fields)}"
        lines = [line, *(f"    {escape(part)}" for part in self.trace(record).splitlines())]
        return "\n".join(lines)


def _quoted(value: Any) -> str:
    text = str(value)
    return (
        text if text and text.isprintable() and not set(text) & set(" \"='") else json.dumps(text, ensure_ascii=False)
    )


class LogLimit:
    """Lets one line per interval pass for each kind and for what it is about, for events that others can cause.

    `kind` is one of a few fixed names. Strangers may choose `about`: DISTINCT of these per interval and kind pass.
    """

    __slots__ = ("_clock", "_interval", "_passed", "_suppressed")

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`interval` in seconds."""
        self._interval = interval
        self._clock = clock
        # Kind -> what the lines were about -> when they passed, the oldest first.
        self._passed: dict[str, dict[str, float]] = {}
        self._suppressed: dict[str, int] = {}

    def passes(self, kind: str = "", about: str = "") -> dict[str, object] | None:
        """None if the line has to be left out; otherwise its `extra`.

        `suppressed`: how many of its kind were left out since the last one. `more`: for how many seconds the next
        ones of its kind are, whatever they are about.
        """
        now = self._clock()
        passed = self._passed.setdefault(kind, {})
        while passed and now - passed[oldest := next(iter(passed))] >= self._interval:
            del passed[oldest]
        if about in passed or len(passed) >= DISTINCT:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        passed[about] = now
        extra: dict[str, object] = {}
        if suppressed := self._suppressed.pop(kind, 0):
            extra["suppressed"] = suppressed
        if len(passed) == DISTINCT:
            first = next(iter(passed.values()))
            extra["more"] = f"hidden for {math.ceil(first + self._interval - now)} s"
        return extra


class Refusals:
    """One line per refusal: who, what, by which rule, and the setting that would allow it.

    Above the limits, lines are counted instead of written; the next line has the number (`suppressed`).
    """

    __slots__ = ("_by_client", "_clock", "_logger", "_second", "_suppressed", "_written")

    def __init__(self, logger: logging.Logger | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger or logging.getLogger("gateway.refusals")
        self._clock = clock
        self._second = 0
        self._written = 0
        self._by_client: dict[str, int] = {}
        self._suppressed = 0

    def refused(
        self, *, client: str, user: str, channel: str, operation: str, rule: str, setting: str, address: str = ""
    ) -> None:
        """An operation was answered with an error. Empty values are left out of the line."""
        fields = {"client": client, "user": user, "address": address, "channel": channel}
        self._write(f"{operation} refused", client or address, {**fields, "rule": rule, "setting": setting})

    def disconnected(self, *, client: str, user: str, error: Disconnect) -> None:
        """A connection was closed because of something its client did."""
        fields = {"client": client, "user": user, "code": error.code.code, "reason": error.code.reason}
        self._write("connection closed", client, {**fields, "detail": error.detail})

    def _write(self, message: str, client: str, fields: Mapping[str, object]) -> None:
        if not self._logger.isEnabledFor(logging.INFO):
            return
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._written = 0
            self._by_client.clear()
        lines = self._by_client.get(client, 0)
        if self._written >= REFUSALS_PER_SECOND or lines >= REFUSALS_PER_CLIENT:
            self._suppressed += 1
            return
        self._written += 1
        self._by_client[client] = lines + 1
        chosen = (
            (name, cut(value, LONGEST_CHOSEN) if isinstance(value, str) else value) for name, value in fields.items()
        )
        extra = {name: value for name, value in chosen if value != ""}
        if self._suppressed:
            extra["suppressed"] = self._suppressed
            self._suppressed = 0
        self._logger.info("%s", message, extra=extra)
