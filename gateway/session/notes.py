"""Notes what the application is to be told about when it ends: connections and subscriptions."""

from itertools import count

from gateway.broker.base import Ending, Ledger
from gateway.channels import namespace_of
from gateway.errors import CloseCode, UnsubscribeCode
from gateway.hooks.decisions import Application
from gateway.hooks.events import about
from gateway.hooks.questions import Peer
from gateway.messages import ClientId, User
from gateway.session.subscription import Subscription


class Notes:
    """Used if the application has a hook for either."""

    def __init__(self, ledger: Ledger, application: Application) -> None:
        self._ledger = ledger
        self._application = application
        # For keys: a client may subscribe to a channel again.
        self._numbers = count(1)

    def connected(self, client: ClientId, user: User, peer: Peer | None) -> None:
        """Raises RequestError if what the connect hook keeps with the connection cannot be noted."""
        assert peer is not None
        packed = about(client, user, peer)
        if self._application.disconnect is not None:
            self._ledger.begin(client, packed)

    def disconnected(self, client: ClientId, code: CloseCode) -> None:
        """Ignored if it had not connected."""
        self._ledger.end(client, Ending(*code))

    def subscribed(self, client: ClientId, user: User, peer: Peer | None, subscription: Subscription) -> None:
        """The subscription has joined its channel."""
        hooks, channel = self._application.unsubscribe, subscription.channel
        if hooks is None or hooks.find(namespace_of(channel.name) or "") is None:
            return
        assert peer is not None
        subscription.note = f"{client}:{next(self._numbers)}"
        self._ledger.begin(subscription.note, about(client, user, peer, channel.name))

    def unsubscribed(self, subscription: Subscription, code: UnsubscribeCode) -> None:
        """Ignored if it had not joined."""
        if subscription.note:
            self._ledger.end(subscription.note, Ending(*code))
