"""How the kinds of payload (JSON, text, binary) are shown in each other's place.

| kind   | a JSON protocol shows         | plain WebSocket shows |
|--------|-------------------------------|-----------------------|
| JSON   | the value                     | a text message        |
| text   | a JSON string                 | a text message        |
| binary | {"base64": "..."}             | a binary message      |
"""

from base64 import b64encode

import msgspec

from gateway.errors import BAD_REQUEST, RequestError
from gateway.messages import Kind, Publication

_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def compact(data: bytes) -> bytes:
    """JSON without raw line breaks, which would split frames of line-based protocols. `data` is valid JSON.

    Inside strings JSON allows no raw control characters, so a line break is always white space between tokens.
    """
    if b"\n" not in data and b"\r" not in data:
        return data
    try:
        return msgspec.json.format(data, indent=-1)
    except RecursionError:
        # The decoder was called with a few frames less on the stack.
        return data.translate(_BREAKS)


def checked_json(data: bytes) -> bytes:
    """JSON from a source that nobody has parsed yet, ready to be spliced into replies. Raises RequestError(107)."""
    try:
        data.decode()
        # The decoder checks the syntax; Raw keeps it from building objects.
        msgspec.json.decode(data, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise RequestError(BAD_REQUEST, f"data is not JSON: {error}") from None
    return compact(data)


def as_json(publication: Publication) -> bytes:
    """The payload as a JSON value."""
    match publication.kind:
        case Kind.JSON:
            return publication.data
        case Kind.TEXT:
            return msgspec.json.encode(publication.data.decode())
        case Kind.BINARY:
            return b'{"base64":"%b"}' % b64encode(publication.data)
