"""Whatever happens in whatever order: each command has one reply, and nothing is left behind."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control import KickUser, RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.errors import UNSUBSCRIBED_INSUFFICIENT
from gateway.messages import Channel
from tests.session.conftest import Client, World

CHANNELS = ("news", "sport", "$room")
STEPS = (
    "subscribe",
    "grant",
    "forge",
    "unsubscribe",
    "publish",
    "sub_refresh",
    "refresh",
    "publication",
    "gap",
    "server subscribes",
    "server unsubscribes",
    "server unsubscribes from all",
    "server refreshes",
    "kick",
    "kick is heard of late",
    "broker holds",
    "broker answers",
    "broker fails",
    "verifier holds",
    "verifier answers",
    "congested",
    "free",
    "time",
)


class Journey:
    """One connection of Ann, and what came back so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client: Client = world.open()
        # The channels of the commands, by id.
        self.asked: dict[int, str] = {1: ""}
        self.messages: list[Any] = []
        world.verifier.hold = world.broker.hold = True
        token = world.token("ann", expires_in=3000, channels=["sport"])
        self.client.raw(b'{"id":1,"connect":{"token":"%b"}}' % token.encode())

    def command(self, name: str, **body: Any) -> None:
        id = len(self.asked) + 1
        self.asked[id] = body.get("channel", "")
        self.messages += self.client.send({"id": id, name: body})

    def control(self, message: SubscribeUser | UnsubscribeUser | RefreshUser | KickUser) -> None:
        self.world.node.on_control(message)

    def take(self, step: str, channel: str) -> None:
        world = self.world
        steps: dict[str, Callable[[], object]] = {
            "subscribe": lambda: self.command("subscribe", channel=channel),
            "grant": lambda: self.command("subscribe", channel=channel, token=world.grant("ann", channel)),
            "forge": lambda: self.command("subscribe", channel=channel, token="forged"),
            "unsubscribe": lambda: self.command("unsubscribe", channel=channel),
            "publish": lambda: self.command("publish", channel=channel, data=1),
            "sub_refresh": lambda: self.command("sub_refresh", channel=channel, token=world.grant("ann", channel)),
            "refresh": lambda: self.command("refresh", token=world.token("ann", expires_in=3000)),
            "publication": lambda: world.publish(channel, "live"),
            "gap": lambda: self.client.session.unsubscribe_by_server(channel, UNSUBSCRIBED_INSUFFICIENT),
            "server subscribes": lambda: self.control(SubscribeUser("default", "ann", channel)),
            "server unsubscribes": lambda: self.control(UnsubscribeUser("default", "ann", channel)),
            "server unsubscribes from all": lambda: self.control(UnsubscribeUser("default", "ann")),
            "server refreshes": lambda: self.control(RefreshUser("default", "ann", expire_at=1_700_009_999)),
            "kick": lambda: self.control(self.kick(channel)),
            "kick is heard of late": lambda: self.client.session.kick(self.kick(channel), late=True),
            "broker holds": lambda: setattr(world.broker, "hold", True),
            "broker answers": self.broker_answers,
            "broker fails": self.broker_fails,
            "verifier holds": lambda: setattr(world.verifier, "hold", True),
            "verifier answers": self.verifier_answers,
            "congested": self.client.session.pause_writing,
            "free": self.client.session.resume_writing,
            "time": lambda: world.scheduler.advance(1),
        }
        steps[step]()
        self.messages += self.client.got()

    def kick(self, channel: str) -> KickUser:
        """Of all tokens until now."""
        return KickUser("default", "ann", channel, int(self.world.scheduler.time()) + 1)

    def broker_answers(self) -> None:
        self.world.broker.hold = False
        while self.world.broker.held:
            self.world.broker.release()

    def broker_fails(self) -> None:
        self.world.broker.up = False
        self.broker_answers()
        self.world.broker.up = True

    def verifier_answers(self) -> None:
        self.world.verifier.hold = False
        while self.world.verifier.held:
            self.world.verifier.release()

    def settle(self) -> None:
        """Let everything that is under way come to its end."""
        for step in ("broker answers", "verifier answers") * 30:
            self.take(step, "")
        self.take("free", "")


Steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(CHANNELS)), max_size=40)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(Steps)
def test_each_command_has_one_reply_and_publications_stay_within_subscriptions(steps: list[tuple[str, str]]) -> None:
    world = World()
    journey = Journey(world)
    for step, channel in steps:
        journey.take(step, channel)
    journey.settle()
    replies = [message["id"] for message in journey.messages if "id" in message]
    assert len(replies) == len(set(replies))
    assert set(replies) <= set(journey.asked)
    check_order(journey.messages, journey.asked)
    if journey.client.closed_with() is None:
        assert sorted(replies) == list(journey.asked)
        assert journey.client.transport.reading


def check_order(messages: list[Any], asked: dict[int, str]) -> None:
    """Publications come only between the start and the end of their subscription, as the client was told of them."""
    subscribed: set[str] = set()
    for message in messages:
        push = message.get("push", {})
        channel = push.get("channel") or asked.get(message.get("id"), "")
        if "connect" in message:
            subscribed |= set(message["connect"].get("subs", ()))
        elif "subscribe" in push or "subscribe" in message:
            assert channel not in subscribed
            subscribed.add(channel)
        elif "pub" in push:
            assert channel in subscribed
        elif "unsubscribe" in push:
            subscribed.remove(channel)
        elif "unsubscribe" in message:
            subscribed.discard(channel)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(Steps)
def test_nothing_is_left_behind(steps: list[tuple[str, str]]) -> None:
    """Wherever the client stood when it left."""
    world = World()
    journey = Journey(world)
    for step, channel in steps:
        journey.take(step, channel)
    journey.client.session.closed(1006, "")
    journey.settle()
    assert world.broker.subscribed == set()
    assert len(world.clients) == 0
    assert world.messaging.hub.num_subscriptions == 0
    assert not world.services.outboxes
    assert all(count == 0 for count in world.registry.occupancy.values())
    world.messaging.acquire(Channel("default", "news"), lambda error: None)
    assert world.broker.subscribed == {Channel("default", "news")}
