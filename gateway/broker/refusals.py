"""What every engine answers in the same words where there is no room."""

from gateway.errors import LIMIT_EXCEEDED, RequestError


def too_many_values() -> RequestError:
    """The answer to a publish of a value whose key is one too many."""
    return RequestError(LIMIT_EXCEEDED, "the channel has as many keys as it may have", "latest_keys")


def too_large_values() -> RequestError:
    """The answer to a publish of a value that takes more bytes than are left for it."""
    return RequestError(LIMIT_EXCEEDED, "the values of the channel take as many bytes as they may", "latest_size")


def too_many_members() -> RequestError:
    """The answer to who is in a channel, where these are too many for an answer."""
    return RequestError(LIMIT_EXCEEDED, "too many members; presence_stats says how many", "limits.presence")


def too_many_bytes() -> RequestError:
    """The answer where what the members tell of themselves is too much for an answer."""
    detail = "the members tell too much of themselves; presence_stats says how many they are"
    return RequestError(LIMIT_EXCEEDED, detail, "limits.outbox")
