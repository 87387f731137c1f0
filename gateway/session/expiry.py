"""When a connection or subscription ends by itself. Times are Unix seconds."""

from collections.abc import Iterable, Iterator

from gateway.auth.identity import Identity
from gateway.session.subscription import Subscription


def ends_at(expiring: Identity | Subscription, grace: float) -> float:
    """When it ends; 0 for never. Clients have a while to refresh (`grace`); the application is asked on time."""
    return expiring.expire_at + (0 if expiring.extended else grace) if expiring.expire_at else 0.0


def is_over(expiring: Identity | Subscription, grace: float, now: float) -> bool:
    """Whether it ends now."""
    return 0 < ends_at(expiring, grace) <= now


def ends(identity: Identity | None, subscriptions: Iterable[Subscription], grace: float) -> Iterator[float]:
    """When what a client has ends, as far as it does."""
    if identity is not None and identity.expire_at:
        yield ends_at(identity, grace)
    for each in subscriptions:
        if each.joined and each.expire_at:
            yield ends_at(each, grace)
