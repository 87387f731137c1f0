"""Why the server at `redis.url` cannot be worked with, in one line, and what to change."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

from redis import exceptions
from redis.exceptions import AuthenticationError, InvalidResponse, ResponseError

from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings

# Redis answers with a line that begins so, also to clients that have not logged in.
_REDIS = (b"+PONG", b"-")
# The record of a TLS alert (RFC 8446 section 5.1): no HTTP and no Redis begins with it.
_ALERT = b"\x15\x03"
_NO_PASSWORD = ("NOAUTH", "HELLO must be called with the client already authenticated", "Authentication required")
_ANOTHER_PASSWORD = ("WRONGPASS", "invalid username-password", "invalid password")
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
    """The reason for an error of redis-py. It may connect to the server, to hear what that speaks."""
    told = _told(error, target) or await _heard(error, target, settings.connect_timeout)
    return told or _silence(error, settings) or str(error)


def _told(error: BaseException, target: Target) -> str:
    """As far as the error tells; otherwise empty."""
    text = str(error)
    if any(each in text for each in _NO_PASSWORD) and not target.password:
        return "the server wants a password: redis://[USER]:PASSWORD@HOST, best in the variable GATEWAY_REDIS__URL"
    if isinstance(error, AuthenticationError) or any(each in text for each in _ANOTHER_PASSWORD):
        return f"the server refuses this password for the user {target.username or 'default'!r}: change either"
    for part, reason in _REFUSALS.items():
        if part in text:
            return reason.format(database=target.database)
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"its certificate is refused ({each.verify_message}): redis.tls_ca_file names those to trust"
        if isinstance(each, socket.gaierror):
            return f"the host is not known ({each.strerror}): name another one, or look at the DNS"
        if isinstance(each, OSError) and each.errno in _SYSTEM:
            return _SYSTEM[each.errno]
    if isinstance(error, InvalidResponse) and (target.tls or target.path):
        return NOT_REDIS
    return ""


async def _heard(error: BaseException, target: Target, seconds: float) -> str:
    """By what the server speaks, if it was addressed in another language; otherwise empty."""
    if target.path or isinstance(error, ResponseError):
        return ""
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


async def _answer(target: Target, seconds: float) -> bytes:
    """What a PING without TLS is answered with; empty for nothing."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(target.host, target.port)
            try:
                writer.write(b"PING\r\n")
                return await reader.read(64)
            finally:
                writer.transport.abort()
    return b""


async def _speaks_tls(target: Target, seconds: float) -> bool:
    """Nothing is sent to it, so that it need not prove who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
            writer.transport.abort()
            return True
    return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: redis-py wraps those of the standard library."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
