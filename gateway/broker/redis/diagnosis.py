"""Why the server at `redis.url` cannot be worked with, in one line, and what to change."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import hiredis
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
NOT_REDIS = "what answers there is not Redis: name another address"
WITHOUT_TLS = "Redis answers there without TLS: change rediss:// to redis://"
WITH_TLS = "a server answers there with TLS: change redis:// to rediss://"


async def diagnose(error: BaseException, target: Target, settings: RedisSettings) -> str:
    """The reason for an error of redis-py or of a link's `connect`; empty if there is nothing more to say.

    It may connect to the server, to hear what that speaks.
    """
    return told(error, target) or await _heard(error, target, settings.connect_timeout)


def told(error: BaseException, target: Target) -> str:
    """As far as the error tells; otherwise empty."""
    text = str(error)
    if any(each in text for each in _NO_PASSWORD) and not target.password:
        return "the server wants a password: redis://[USER]:PASSWORD@HOST, best in the variable GATEWAY_REDIS__URL"
    if isinstance(error, AuthenticationError) or any(each in text for each in _ANOTHER_PASSWORD):
        return f"the server refuses this password for the user {target.username or 'default'!r}: change either"
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"its certificate is refused ({each.verify_message}): redis.tls_ca_file names those to trust"
        if isinstance(each, socket.gaierror):
            return f"the host is not known ({each.strerror}): name another one, or look at the DNS"
        # (Of a name with several addresses, asyncio tells only the texts.)
        if isinstance(each, OSError) and (each.errno == errno.ECONNREFUSED or _REFUSED in str(each)):
            return "nothing listens there (connection refused): start Redis, or name another address"
        if isinstance(each, OSError) and each.errno == errno.ENOENT:
            return "there is no such socket: start Redis, or name another path"
    if (isinstance(error, UNREADABLE) or INVALID in text) and (target.tls or target.path):
        return NOT_REDIS
    return ""


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
