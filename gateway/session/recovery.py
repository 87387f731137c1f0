"""Joining channels with history or latest values: from the client's position to that of the other subscribers."""

from collections.abc import Callable, Sequence

from gateway.errors import RequestError
from gateway.hub.fanout import footprint
from gateway.messages import Position, Publication, SubscribeResult
from gateway.session.completion import Failure
from gateway.session.inbox import Work
from gateway.session.session import Session
from gateway.session.subscription import Subscription


def bring_in(
    session: Session,
    request: Work,
    subscription: Subscription,
    since: Position | None,
    positioned: Callable[[None], bool | None],
    failed: Callable[[Failure], object],
) -> None:
    """Take a subscription to where it can join, for a request; `since` is the client's position, if it gave one.

    The channel is acquired first. `positioned` and `failed` are called as in `Session.then`; `positioned` may `arrive`
    now, and is called again if it returns True.
    """

    def abandoned(outcome: Failure | None) -> None:
        if outcome is None:
            session.services.messaging.release(subscription.channel)

    def acquired(outcome: None) -> bool:
        subscription.acquired = True
        _approach(session, subscription, since, session.then(request, positioned, failed))
        return True

    session.services.messaging.acquire(subscription.channel, session.then(request, acquired, failed, abandoned))


def arrive(
    session: Session, subscription: Subscription, since: Position | None, room: int | None = None
) -> SubscribeResult:
    """The result to send for a subscription that joins now.

    If its publications take more than `room` bytes, the client is told that it has not recovered.
    """
    joiner, subscription.joiner = subscription.joiner, None
    if joiner is None:
        # Without a history nobody can know what the client missed.
        return SubscribeResult(recovered=None if since is None else False)
    joined = joiner.finish()
    publications = joined.publications
    if room is not None and size(publications) > room:
        return SubscribeResult(position=joined.position, recovered=False)
    position = joined.position
    if position is None:
        return SubscribeResult(publications=publications)
    mine = [each for each in publications if each.exclude_client != session.client]
    if mine:
        # The client counts from just before the first: those skipped exclude it, or it wants only the newest.
        position = Position(mine[0].offset - 1, position.epoch)
    return SubscribeResult(position=position, recovered=joined.recovered, publications=mine)


def _approach(
    session: Session,
    subscription: Subscription,
    since: Position | None,
    changed: Callable[[RequestError | None], None],
) -> None:
    """Bring an acquired subscription to where it can join; `since` is the client's position, if it gave one.

    `changed` is called, possibly at once and repeatedly, when `arrive` may be called, or with the error that ends it.
    """
    channel = subscription.channel
    try:
        spec = session.services.channels.resolve(channel.app, channel.name)
    except RequestError as error:
        # A reload has removed the namespace since, or only other nodes have it.
        changed(error.detach())
        return
    interval = subscription.grant.latest_interval if subscription.grant is not None else None
    joiner = session.services.messaging.prepare_join(spec, since, changed, interval=interval)
    if joiner is None:
        changed(None)
        return
    subscription.joiner = joiner
    subscription.lane = joiner.lane
    joiner.start()


def size(publications: Sequence[Publication]) -> int:
    """Bytes of memory that the publications take."""
    return sum(map(footprint, publications))
