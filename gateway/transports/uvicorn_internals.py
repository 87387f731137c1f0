"""All that we use of uvicorn beyond its documented API, and a check that the installed release has it.

No other module imports these from uvicorn. Importing this module raises GatewayError if something is missing. The check
covers names and parameters; only the tests show that they still mean the same, so the requirement ends with the newest
release that the tests have run with. (`log.py` knows the names of uvicorn's loggers, and the arguments of its access
lines.)
"""

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import uvicorn

from gateway.errors import GatewayError

# The first and the last release that the tests have run with; pyproject.toml requires the same.
OLDEST, NEWEST = "0.53", "0.54"


def _unfit(missing: str) -> GatewayError:
    version = getattr(uvicorn, "__version__", "of an unknown version")
    return GatewayError(
        f"the installed uvicorn {version} does not fit, it lacks {missing}; "
        f"known to work are {OLDEST} to {NEWEST}: pip install 'uvicorn=={NEWEST}.*'"
    )


try:
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    from uvicorn.server import ServerState
except ImportError as error:
    raise _unfit(error.name if isinstance(error, ModuleNotFoundError) and error.name else str(error)) from error

__all__ = ["FlowControl", "HttpToolsProtocol", "RequestResponseCycle", "ServerState"]


class Use(NamedTuple):
    """What we use of a class: methods that we override or call, with their parameters, and instance attributes."""

    methods: dict[str, str]
    attributes: str = ""


USED: dict[type[Any], Use] = {
    HttpToolsProtocol: Use(
        {
            "__init__": "config server_state app_state _loop",
            "connection_made": "transport",
            "connection_lost": "exc",
            "data_received": "data",
            "shutdown": "",
            "on_message_begin": "",
            "on_url": "url",
            "on_header": "name value",
            "on_headers_complete": "",
            "on_body": "body",
            "on_message_complete": "",
            "on_response_complete": "",
            "timeout_keep_alive_handler": "",
            "_start_asgi_task": "cycle app",
            "_should_upgrade": "",
            "_unset_keepalive_if_required": "",
        },
        "app asgi_version client connections cycle flow headers loop parser pipeline root_path scheme scope server "
        "server_state tasks timeout_keep_alive transport url",
    ),
    RequestResponseCycle: Use({}, "disconnected message_event more_body response_complete response_started scope"),
    FlowControl: Use(
        {
            "__init__": "transport",
            "pause_reading": "",
            "resume_reading": "",
            "pause_writing": "",
            "resume_writing": "",
        },
        "_transport read_paused write_paused",
    ),
    ServerState: Use({"__init__": ""}, "connections default_headers tasks"),
    uvicorn.Config: Use({"load": ""}, "http_protocol_class"),
    uvicorn.Server: Use(
        {
            "__init__": "config",
            "serve": "sockets",
            "_serve": "sockets",
            "main_loop": "",
            "on_tick": "counter",
            "handle_exit": "sig frame",
        },
        "server_state should_exit started",
    ),
}


def lacking() -> Iterator[str]:
    """Everything in USED that the installed uvicorn lacks, or has with other parameters."""
    for owner, use in USED.items():
        for name, parameters in use.methods.items():
            method = getattr(owner, name, None)
            if method is None:
                yield f"{owner.__name__}.{name}"
            elif list(inspect.signature(method).parameters)[1:] != parameters.split():
                yield f"{owner.__name__}.{name}({', '.join(parameters.split())})"
    try:
        specimens = objects()
    except Exception as error:
        yield f"objects that can be made as expected ({error})"
        return
    for each in specimens:
        for name in USED[type(each)].attributes.split():
            if not hasattr(each, name):
                yield f"{type(each).__name__}.{name}"


def objects() -> list[Any]:
    """One instance of each class, without a connection, loop or thread behind it."""
    state = ServerState()
    config = uvicorn.Config(_nothing, http=HttpToolsProtocol, ws="none", lifespan="off", log_config=None, workers=1)
    config.load()
    # The loop is not used until a request arrives.
    loop: Any = object()
    protocol = HttpToolsProtocol(config, state, {}, loop)
    protocol.on_message_begin()
    blank: dict[str, Any] = dict.fromkeys(inspect.signature(RequestResponseCycle).parameters)
    cycle = RequestResponseCycle(**blank)
    transport: Any = object()
    return [protocol, cycle, FlowControl(transport), state, config, uvicorn.Server(config)]


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application."""


if missing := ", ".join(lacking()):
    raise _unfit(missing)
