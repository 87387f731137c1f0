"""A hook that does nothing, for the benchmark."""

from gateway.hooks import Hooks, PublishRequest

hooks = Hooks()


@hooks.publish()
async def allow(request: PublishRequest) -> bool:
    """Every publish."""
    return True
