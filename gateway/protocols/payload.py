"""How a protocol for one kind of payload shows the others (JSON, text, binary).

| kind   | a JSON protocol shows         | plain WebSocket shows | Protobuf shows       |
|--------|-------------------------------|-----------------------|----------------------|
| JSON   | the value                     | a text message        | its text             |
| text   | a JSON string                 | a text message        | the text, as it is   |
| binary | {"base64": "..."}             | a binary message      | the bytes            |
"""

from base64 import b64encode

import msgspec

from gateway.errors import BAD_REQUEST, RequestError
from gateway.json_text import check_json, compact, mended
from gateway.messages import Kind, Publication


def checked_json(data: bytes) -> bytes:
    """Check JSON that has not been parsed yet, and make it ready for replies. Raises RequestError(107)."""
    try:
        check_json(data)
    except ValueError as error:
        raise RequestError(BAD_REQUEST, f"data is not JSON: {error}") from None
    return compact(data)


def json_of(data: bytes) -> bytes | None:
    """Bytes as JSON that can be spliced; None if they are none."""
    try:
        return checked_json(mended(data))
    except RequestError:
        return None


def in_base64(data: bytes) -> bytes:
    """Bytes as a JSON value."""
    return b'{"base64":"%b"}' % b64encode(data)


def as_json(publication: Publication) -> bytes:
    """The payload as a JSON value."""
    match publication.kind:
        case Kind.JSON:
            return publication.data
        case Kind.TEXT:
            return msgspec.json.encode(publication.data.decode())
        case Kind.BINARY:
            return in_base64(publication.data)
