"""How the kinds of payload (JSON, text, binary) are shown in each other's place.

| kind   | a JSON protocol shows         | plain WebSocket shows |
|--------|-------------------------------|-----------------------|
| JSON   | the value                     | a text message        |
| text   | a JSON string                 | a text message        |
| binary | {"base64": "..."}             | a binary message      |
"""

import re
from base64 import b64encode

import msgspec

from gateway.errors import BAD_REQUEST, RequestError
from gateway.messages import Kind, Publication

_BREAKS = bytes.maketrans(b"\r\n", b"  ")

# An escape in a JSON string (RFC 8259 section 7): a surrogate pair, half of one, any other.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def compact(data: bytes) -> bytes:
    """JSON without raw line breaks, which would split frames of line-based protocols. `data` is valid JSON.

    Inside strings JSON allows no raw control characters, so a line break is always white space between tokens.
    """
    return data.translate(_BREAKS) if b"\n" in data or b"\r" in data else data


def mended(data: bytes) -> bytes:
    """JSON with U+FFFD for every half of a character (lone surrogate, RFC 8259 section 8.2).

    JavaScript's JSON.stringify writes text that was cut in the middle of an emoji that way; decoders refuse it.
    """
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], data)


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
