"""Our HTTP class for a uvicorn server of somebody else."""

import logging
from functools import partial
from typing import Any

from gateway.errors import GatewayError
from gateway.transports.http_options import HttpOptions

logger = logging.getLogger(__name__)


def http_protocol(options: HttpOptions) -> Any:
    """What `uvicorn.Config` takes as `http`.

    With a uvicorn that does not fit it is uvicorn's own class, and a warning in the log says why: connections are
    served over plain ASGI then, WebSockets too (`ws="auto"`, the default).
    """
    try:
        # Not earlier: whoever only needs the applications needs no uvicorn that fits.
        from gateway.transports.http_protocol import GatewayHttpProtocol
    except GatewayError as error:
        logger.warning("connections are served over plain ASGI, with fewer limits and at a higher price: %s", error)
        return "auto"
    return partial(GatewayHttpProtocol, options)
