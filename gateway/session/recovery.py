"""Subscriptions of channels with history or latest values: from where the client stood to where the others stand."""

from collections.abc import Callable

from gateway.errors import RequestError
from gateway.messages import Position, SubscribeResult
from gateway.node.latest import LatestJoiner
from gateway.session.session import Session
from gateway.session.subscription import Subscription


def approach(
    session: Session,
    subscription: Subscription,
    since: Position | None,
    changed: Callable[[RequestError | None], None],
) -> None:
    """Take an acquired subscription to where it can join; `since` is where the client stood, if it says so.

    `changed` is called, possibly at once and more than once, when `arrive` may be, or with the error that ends it.
    """
    channel = subscription.channel
    try:
        spec = session.services.channels.resolve(channel.app, channel.name)
    except RequestError as error:
        # A reload has taken the namespace away since, or only other nodes have it.
        changed(error)
        return
    streams = session.services.node.streams
    if spec.latest is not None:
        grant = subscription.grant
        interval = spec.latest.interval if grant is None or grant.latest_interval is None else grant.latest_interval
        subscription.joiner = streams.join_latest(channel, spec.latest, interval, changed)
        subscription.lane = subscription.joiner.lane
        subscription.joiner.start()
        return
    if spec.history is None:
        changed(None)
        return
    cache = spec.options.recovery == "cache"
    subscription.joiner = streams.join(channel, spec.history, since, changed, cache=cache)
    subscription.joiner.start()


def arrive(subscription: Subscription, since: Position | None) -> SubscribeResult:
    """What the client is told of a subscription that joins now."""
    joiner, subscription.joiner = subscription.joiner, None
    if joiner is None:
        # Without a history nobody can know what the client missed.
        return SubscribeResult(recovered=None if since is None else False)
    joined = joiner.finish()
    if isinstance(joiner, LatestJoiner):
        # Without a position: the client gets the newest values again when it comes back.
        return SubscribeResult(publications=joined.publications)
    if joined.recovered and since is not None:
        # The client counts on from where it stood.
        position = Position(since.offset, joined.position.epoch)
        return SubscribeResult(position=position, recovered=True, publications=joined.publications)
    return SubscribeResult(position=joined.position, recovered=joined.recovered)
