"""What the value of a setting may be: the base of all sections, and types with their checks."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from gateway.config import listen_addresses, urls
from gateway.config.redis_url import Target


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python counts True as 1: `workers = true` would start one."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation in (int, float):
            raise ValueError("expected a number")
        return value


def listed(value: Any) -> Any:
    """What a text lists, with commas in between; any other value as it is."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",")] if value.strip() else []


def _redis_url(value: SecretStr) -> SecretStr:
    Target.of(value.get_secret_value())
    return value


def _fixed_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    # Braces: a template that claims would fill in.
    if not url.startswith(("http://", "https://")) or set(url) & set("{}"):
        raise ValueError("expected https://HOST[:PORT]/PATH, a fixed URL without { and }")
    urls.split(url)
    return value


def _node_url(value: str) -> str:
    if value:
        parts = urls.split(value)
        if parts.scheme not in ("http", "https") or parts.login is not None or parts.path or parts.query is not None:
            raise ValueError("expected http://HOST[:PORT] or https://HOST[:PORT]")
    return value


def _file(value: Any) -> Any:
    """An empty path would be the current folder."""
    if value == "":
        raise ValueError("expected the path of a file")
    return value


def _origin(value: str) -> str:
    """An Origin header carries no path (RFC 6454 section 7), so that an entry with one would never match."""
    scheme, separator, host = value.partition("://")
    if value != "*" and not (separator and scheme and host and not set(host) & set("/?#@ ")):
        raise ValueError("expected SCHEME://HOST[:PORT] without a path, for example https://example.com, or *")
    return value


# Headers of a request to a hook that are the gateway's own, or belong to the connection to the client.
OWN_HEADERS = (
    *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect"),
    *("host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    "x-gateway-signature",
)


def _header(value: str) -> str:
    if value.lower() in OWN_HEADERS:
        raise ValueError(f"expected other headers than {', '.join(OWN_HEADERS)}")
    return value.lower()


_ADDRESS: dict[str, Any] = {"type": "string", "format": "address"}

Address = Annotated[str, AfterValidator(listen_addresses.checked)]
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(listed),
    # Also as a text with commas, for the schema of the chart.
    WithJsonSchema({"anyOf": [{"type": "array", "items": _ADDRESS}, {"type": "string"}]}),
]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
# It may hold a login or a key.
FixedUrl = Annotated[SecretStr, AfterValidator(_fixed_url)]
NodeUrl = Annotated[str, AfterValidator(_node_url)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
File = Annotated[Path, BeforeValidator(_file)]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"), AfterValidator(_header)]
Origin = Annotated[str, AfterValidator(_origin)]
ChannelName = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
EventName = Annotated[str, Field(min_length=1, max_length=128)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000)]
PositiveSeconds = Annotated[float, Field(gt=0, le=31_536_000)]
Bytes = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
