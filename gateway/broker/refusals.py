"""Errors for limits that all engines word alike."""

from gateway.errors import LIMIT_EXCEEDED, RequestError


def too_many_values() -> RequestError:
    """For a publish of a value whose key exceeds the number of keys."""
    return RequestError(LIMIT_EXCEEDED, "the channel has as many keys as it may have", "latest_keys")


def too_large_values() -> RequestError:
    """For a publish of a value that exceeds the bytes of all values."""
    return RequestError(LIMIT_EXCEEDED, "the values of the channel take as many bytes as they may", "latest_size")


def too_many_members() -> RequestError:
    """For presence in a channel with more members than fit into an answer."""
    return RequestError(LIMIT_EXCEEDED, "too many members; presence_stats says how many", "limits.presence")


def too_many_bytes() -> RequestError:
    """For presence in a channel whose members take more bytes than fit into an answer."""
    detail = "the info of the members is too large; presence_stats says how many they are"
    return RequestError(LIMIT_EXCEEDED, detail, "limits.outbox")
