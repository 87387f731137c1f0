"""The command of a publish, and the meaning of its answer, for nodes and for publishers beside them. Pure functions."""

from typing import Any

import hiredis

from gateway.broker import envelope
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import lua, stream_commands
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import pack
from gateway.broker.redis.stream_commands import Server
from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.messages import PUBLISHED, Publication, PublishOptions, PublishResult

# Error replies after which the connection is of no more use: the server behind it is another one.
REPLACED = ("READONLY", "STALE")
# The server has forgotten its scripts (SCRIPT FLUSH).
FORGOTTEN = "NOSCRIPT"


def publish_command(keys: Keys, publication: Publication, options: PublishOptions, server: Server) -> bytes:
    """The command that publishes; its scripts have to be loaded (lua.PUBLISHING)."""
    if options.history is not None:
        return stream_commands.publish_command(keys, publication, options.history, options, server)
    if options.latest is not None:
        return stream_commands.latest_command(keys, publication, options.latest, options, server)
    bus = keys.bus(publication.channel)
    message = envelope.live(publication)
    if options.idempotency_key:
        result = keys.result(publication.channel, options.idempotency_key)
        return pack("EVALSHA", lua.PUBLISH_ONCE.sha, 1, result, bus, message, options.idempotency_ttl)
    return pack(b"PUBLISH", bus, message)


def result_of(reply: Any) -> PublishResult:
    """The result in an answer that is no error. Raises RequestError for a value refused, EnvelopeError."""
    if not isinstance(reply, list):
        return PUBLISHED
    if (obstacle := stream_commands.obstacle(reply)) is not None:
        raise obstacle
    return PublishResult(*stream_commands.position(reply))


def outcome_of(reply: Any) -> PublishResult | RequestError:
    """As `result_of`, and for what a link gives instead of an answer. Raises nothing."""
    if isinstance(reply, RequestError):
        return reply
    if isinstance(reply, hiredis.ReplyError):
        return failure_of(str(reply))
    try:
        return result_of(reply)
    except RequestError as error:
        return error.detach()
    except EnvelopeError as error:
        return OutcomeUnknown(f"published, at a position that cannot be read: {error}")


def is_lost(reply: Any) -> bool:
    """Whether an answer says that the connection has to be made anew: with its scripts, to the server of now."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith((*REPLACED, FORGOTTEN))


def failure_of(text: str) -> RequestError:
    """The error of a publish, from an error reply of Redis."""
    if text.startswith("UNSENT"):
        return OutcomeUnknown(f"stored, but not sent to the subscribers: {text}")
    # An error of Redis itself (out of memory, read only, loading): the command was not carried out.
    return BrokerUnavailable(f"Redis refused the publish: {text}")
