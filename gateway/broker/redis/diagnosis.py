"""Why the server at `redis.url` cannot be worked with, in one line, and what to change."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import hiredis
from redis import exceptions
from redis.exceptions import AuthenticationError, InvalidResponse, ResponseError

from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings

# What the parser of redis-py in Python raises for an answer that is none of Redis: its own error, and those of reading
# a number that is none, a line without an end and lists in lists.
UNREADABLE = (InvalidResponse, ValueError, RecursionError)
# Redis answers with a line that begins so, also to clients that have not logged in.
_REDIS = (b"+PONG", b"-")
# The record of a TLS alert (RFC 8446 section 5.1): no HTTP and no Redis begins with it.
_ALERT = b"\x15\x03"
_REFUSED = f"[Errno {errno.ECONNREFUSED}]"
_NO_PASSWORD = ("NOAUTH", "HELLO must be called with the client already authenticated", "Authentication required")
_ANOTHER_PASSWORD = ("WRONGPASS", "invalid username-password", "invalid password")
# How the reason begins with which a link is given up after such an answer.
INVALID = "Redis sent invalid data"
# What servers answer to a client that they refuse for other reasons, and what to change. "{database}": that of the URL.
_REFUSALS = {
    "DB index is out of range": "the server has no database {database}: name another one in the URL, or raise "
    "`databases` of the server",
    "SELECT is not allowed": "the server is in cluster mode and has no database {database}: name none in the URL",
    "max number of clients": "the server has as many clients as it may have: raise its `maxclients`, or end others",
    "loading the dataset": "the server still reads its data: try again later",
    "protected mode": "the server is in protected mode and takes clients of its own machine only: give it a password, "
    "or set its `bind`",
}
_SYSTEM = {
    errno.ECONNREFUSED: "nothing listens there (connection refused): start Redis, or name another address",
    errno.ENOENT: "there is no such socket: start Redis, or name another path",
    errno.EACCES: "this user may not open it: change its rights (`unixsocketperm`), or run as another user",
    errno.ENETUNREACH: "no network leads there: name another address, or look at the network",
    errno.EHOSTUNREACH: "the host cannot be reached: name another address, or look at the network",
}
_CLOSING = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
CLOSED = "what listens there closed the connection without an answer: look at its log, or name another address"
NOT_REDIS = "what answers there is not Redis: name another address"
WITHOUT_TLS = "Redis answers there without TLS: change rediss:// to redis://"
WITH_TLS = "a server answers there with TLS: change redis:// to rediss://"


async def diagnose(error: BaseException, target: Target, settings: RedisSettings) -> str:
    """The reason for an error of redis-py or of a link's `connect`; empty if there is nothing more to say.

    It may connect to the server, to hear what that speaks.
    """
    return told(error, target) or await _heard(error, target, settings.connect_timeout) or _silence(error, settings)


def told(error: BaseException, target: Target) -> str:
    """As far as the error tells; otherwise empty."""
    text = str(error)
    if any(each in text for each in _NO_PASSWORD) and not target.password:
        return "the server wants a password: redis://[USER]:PASSWORD@HOST, best in the variable GATEWAY_REDIS__URL"
    if isinstance(error, AuthenticationError) or any(each in text for each in _ANOTHER_PASSWORD):
        return f"the server refuses this password for the user {target.username or 'default'!r}: change either"
    for part, reason in _REFUSALS.items():
        if part in text:
            return reason.format(database=target.database)
    reason = next(filter(None, map(_of_system, _chain(error))), "")
    if not reason and (isinstance(error, UNREADABLE) or INVALID in text) and (target.tls or target.path):
        return NOT_REDIS
    return reason


def _of_system(error: BaseException) -> str:
    """For an error of the system or of TLS; otherwise empty."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message}): redis.tls_ca_file names those to trust"
    if isinstance(error, socket.gaierror):
        return f"the host is not known ({error.strerror}): name another one, or look at the DNS"
    if isinstance(error, OSError) and _REFUSED in str(error):
        # (Of a name with several addresses, asyncio tells only the texts.)
        return _SYSTEM[errno.ECONNREFUSED]
    return _SYSTEM.get(error.errno or 0, "") if isinstance(error, OSError) else ""


async def _heard(error: BaseException, target: Target, seconds: float) -> str:
    """By what the server speaks, if it was addressed in another language; otherwise empty."""
    if target.path or isinstance(error, ResponseError | hiredis.ReplyError):
        return ""
    if target.tls:
        answer = await _answer(target, seconds, _trusting())
        if answer:
            return "" if answer.startswith(_REDIS) else NOT_REDIS
    answer = await _answer(target, seconds)
    if answer.startswith(_REDIS):
        return WITHOUT_TLS if target.tls else ""
    if answer and not answer.startswith(_ALERT):
        return NOT_REDIS
    return WITH_TLS if not target.tls and await _speaks_tls(target, seconds) else ""


def _silence(error: BaseException, settings: RedisSettings) -> str:
    """For a server that says nothing, in any language; otherwise empty."""
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        # A TLS handshake is a part of connecting.
        name = "connect_timeout" if "connecting" in str(error) else "publish_timeout"
        return (
            f"no answer within {getattr(settings, name):g} s (redis.{name}): look whether Redis runs there and no "
            "firewall is in between, or name another address"
        )
    is_closed = any(isinstance(each, _CLOSING) for each in _chain(error))
    return CLOSED if is_closed or "closed by server" in str(error) else ""


async def _answer(target: Target, seconds: float, tls: ssl.SSLContext | None = None) -> bytes:
    """What a PING is answered with; empty for nothing."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(target.host, target.port, ssl=tls)
            try:
                writer.write(b"PING\r\n")
                return await reader.read(64)
            finally:
                writer.transport.abort()
    return b""


async def _speaks_tls(target: Target, seconds: float) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(target.host, target.port, ssl=_trusting())
            writer.transport.abort()
            return True
    return False


def _trusting() -> ssl.SSLContext:
    """No secret is sent to the server, so that it need not prove who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: redis-py wraps those of the standard library."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
