"""Our HTTP class, for a uvicorn server that is not ours."""

import logging
from functools import partial
from typing import Any

from gateway.errors import GatewayError
from gateway.transports.http_options import HttpOptions

logger = logging.getLogger(__name__)


def http_protocol(options: HttpOptions) -> Any:
    """The value for the `http` parameter of `uvicorn.Config`.

    With an incompatible uvicorn this is uvicorn's own class, and a warning in the log says why. Connections are then
    served over plain ASGI, WebSockets too (`ws="auto"`, the default).
    """
    try:
        # Imported late: using only the applications needs no compatible uvicorn.
        from gateway.transports.http_protocol import GatewayHttpProtocol
    except GatewayError as error:
        logger.warning("connections are served over plain ASGI, with fewer limits and at a higher cost: %s", error)
        return "auto"
    return partial(GatewayHttpProtocol, options)
