"""Subscribe, unsubscribe, disconnect, refresh, revoke, kick: what backends do to connected users."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.api.request_shapes import DisconnectRequest
from gateway.api.users import Users
from gateway.auth.revocations import Revocations
from gateway.broker.memory.memory_presence import MemoryPresence
from gateway.channels import Channels
from gateway.control import Control, ControlResult, NodeId
from gateway.errors import INTERNAL, RequestError
from gateway.metrics import Metrics
from gateway.node.administration import Profile
from gateway.tokens import connection_token, subscription_token
from tests.api.clients import close_of, native, plain, settled
from tests.api.conftest import Api
from tests.api.site import OPEN, SECRET, Site, running, settings_of
from tests.fakes import Assembly, DictRegistry, ManualBroker, ManualScheduler


def test_subscribe_reaches_every_connection_of_the_user(site: Site, api: Api) -> None:
    """And nobody else; even where the user could not subscribe itself, since the server says so."""
    with native(site, "ada") as one, native(site, "ada") as other, native(site, "bob") as bob, native(site) as anybody:
        assert api.call("subscribe", user="ada", channel="closed:room", data={"a": [1]}) == {}
        api.call("publish", channel="closed:room", data=1)
        for client in (one, other):
            assert client.push() == {"channel": "closed:room", "subscribe": {"data": {"a": [1]}}}
            assert client.push() == {"channel": "closed:room", "pub": {"data": 1}}
        for client in (bob, anybody):
            client.subscribe("news")
            api.call("publish", channel="news", data=2)
            assert client.push() == {"channel": "news", "pub": {"data": 2}}


def test_subscribe_can_mean_one_connection(site: Site, api: Api) -> None:
    """An id of somebody else's connection, or of none, subscribes nobody."""
    with native(site, "ada") as one, native(site, "ada") as other, native(site, "bob") as bob:
        api.call("subscribe", user="ada", channel="closed:one", client=one.id)
        api.call("subscribe", user="ada", channel="closed:one", client=bob.id)
        api.call("subscribe", user="ada", channel="closed:one", client="nobody")
        api.call("subscribe", user="ada", channel="closed:two")
        api.call("subscribe", user="bob", channel="closed:two")
        assert [one.push()["channel"] for _ in range(2)] == ["closed:one", "closed:two"]
        assert other.push()["channel"] == "closed:two"
        assert bob.push()["channel"] == "closed:two"


@pytest.mark.parametrize("encoded", [False, True])
def test_info_goes_with_what_the_connection_publishes(site: Site, api: Api, encoded: bool) -> None:
    """As chan_info, given as JSON or in base64."""
    info = {"b64info": b64encode(b'{"role":\n"host"}').decode()} if encoded else {"info": {"role": "host"}}
    with native(site, "ada") as ada:
        api.call("subscribe", user="ada", channel="stage", **info)
        assert ada.push() == {"channel": "stage", "subscribe": {}}
        assert "publish" in ada.command(publish={"channel": "stage", "data": 1})
        assert ada.publication()["info"]["chan_info"] == {"role": "host"}


def test_subscribing_again_changes_nothing(site: Site, api: Api) -> None:
    """Whether the client or the server was first: one subscription, one delivery."""
    with native(site, "ada") as ada:
        ada.subscribe("twice")
        api.call("subscribe", user="ada", channel="twice")
        api.call("subscribe", user="ada", channel="thrice")
        api.call("subscribe", user="ada", channel="thrice")
        assert ada.push() == {"channel": "thrice", "subscribe": {}}
        assert ada.command(subscribe={"channel": "thrice"})["error"]["code"] == 105
        for channel in ("twice", "thrice", "twice"):
            api.call("publish", channel=channel, data=1)
            assert ada.push() == {"channel": channel, "pub": {"data": 1}}


def test_a_subscription_by_the_server_expires(site: Site, api: Api) -> None:
    """The client cannot renew it: the connection closes, and gets what it is due when it comes back."""
    with native(site, "ada") as ada:
        api.call("subscribe", user="ada", channel="brief", expire_at=int(time.time()) + 3600)
        assert ada.push() == {"channel": "brief", "subscribe": {}}
        api.call("subscribe", user="ada", channel="over", expire_at=int(time.time()) + 1)
        assert ada.push() == {"channel": "over", "subscribe": {}}
        assert ada.close_code() == (3006, "subscription expired")


def test_a_subscription_by_the_server_is_not_begun_when_it_has_expired(site: Site, api: Api) -> None:
    """Nothing of the channel is given away."""
    with native(site, "ada") as ada:
        assert api.error("subscribe", user="ada", channel="over", expire_at=int(time.time()) - 1)[0] == 110
        assert ada.pushes() == []


def test_the_server_says_again_when_a_subscription_ends(site: Site, api: Api) -> None:
    """The client cannot: what it is subscribed to by the server is not its own to refresh."""
    with native(site, "ada") as ada:
        api.call("subscribe", user="ada", channel="brief")
        assert ada.push() == {"channel": "brief", "subscribe": {}}
        api.call("subscribe", user="ada", channel="brief", expire_at=int(time.time()) + 1)
        assert ada.close_code() == (3006, "subscription expired")
    with native(site, "ada") as ada:
        api.call("subscribe", user="ada", channel="brief", expire_at=int(time.time()) + 3600)
        assert ada.push() == {"channel": "brief", "subscribe": {}}
        token = subscription_token(SECRET, "ada", "brief")
        assert ada.command(sub_refresh={"channel": "brief", "token": token})["error"]["code"] == 107


def test_unsubscribe_ends_one_or_all(site: Site, api: Api) -> None:
    """Final for SDKs (2000); publications stop; what is not subscribed is no error."""
    with native(site, "ada") as one, native(site, "ada") as other:
        for client in (one, other):
            for channel in ("a", "b", "c"):
                client.subscribe(channel)
        ended = {"code": 2000, "reason": "server unsubscribe"}
        assert api.call("unsubscribe", user="ada", channel="a", client=one.id) == {}
        api.call("unsubscribe", user="ada", channel="d")
        api.call("unsubscribe", user="bob", channel="b")
        api.call("publish", channel="a", data=1)
        assert one.push() == {"channel": "a", "unsubscribe": ended}
        assert other.push() == {"channel": "a", "pub": {"data": 1}}
        api.call("unsubscribe", user="ada")
        assert sorted(one.push()["channel"] for _ in range(2)) == ["b", "c"]
        assert sorted(other.push()["channel"] for _ in range(3)) == ["a", "b", "c"]
        api.call("broadcast", channels=["a", "b", "c"], data=1)
        one.subscribe("a")
        api.call("publish", channel="a", data=2)
        assert one.push() == {"channel": "a", "pub": {"data": 2}}


def test_unsubscribe_closes_plain_clients(site: Site, api: Api) -> None:
    """Without its one channel a plain connection has no purpose."""
    with settled(site, "a", query=f"?token={connection_token(SECRET, 'ada')}") as client:
        api.call("unsubscribe", user="ada", channel="a")
        assert close_of(client) == (3503, "force disconnect")


def test_disconnect_closes_the_connections_of_a_user(site: Site, api: Api) -> None:
    """All of them, of both protocols, with the code after which SDKs stay away; others stay."""
    token = connection_token(SECRET, "ada")
    with native(site, "ada") as one, settled(site, "a", query=f"?token={token}") as other, native(site, "bob") as bob:
        assert api.call("disconnect", user="ada") == {}
        assert one.close_code() == (3503, "force disconnect")
        assert close_of(other) == (3503, "force disconnect")
        bob.subscribe("a")
        assert api.call("disconnect", user="nobody") == {}


def test_disconnect_can_mean_one_connection_or_all_but_some(site: Site, api: Api) -> None:
    """`client` and `whitelist`."""
    with native(site, "ada") as one, native(site, "ada") as two, native(site, "ada") as three:
        api.call("disconnect", user="bob", client=one.id)
        api.call("disconnect", user="ada", client=one.id)
        assert one.close_code() == (3503, "force disconnect")
        api.call("disconnect", user="ada", client=two.id, whitelist=[two.id])
        api.call("disconnect", user="ada", whitelist=[two.id, "nobody"])
        assert three.close_code() == (3503, "force disconnect")
        two.subscribe("still")


@pytest.mark.parametrize(
    ("disconnect", "expected"),
    [
        ({}, (3503, "force disconnect")),
        ({"code": 0, "reason": ""}, (3503, "force disconnect")),
        ({"reason": "maintenance"}, (3503, "maintenance")),
        ({"code": 3000}, (3000, "")),
        ({"code": 4000, "reason": "go"}, (4000, "go")),
        ({"code": 4999, "reason": "ü" * 61 + "!"}, (4999, "ü" * 61 + "!")),
    ],
)
def test_disconnect_with_a_code(site: Site, api: Api, disconnect: dict[str, Any], expected: tuple[int, str]) -> None:
    """Code and reason arrive as they are given; the closes are counted without their numbers growing by the caller."""
    before = set(site.gateway.metrics.closed.values)
    with native(site, "ada") as ada:
        api.call("disconnect", user="ada", disconnect=disconnect)
        assert ada.close_code() == expected
    assert set(site.gateway.metrics.closed.values) - before <= {"custom", "3503"}


def test_refresh_changes_when_a_connection_ends(site: Site, api: Api) -> None:
    """The client is told; 0 is never; another user's connections are left alone."""
    with native(site, "ada") as ada, native(site, "bob") as bob:
        assert ada.connected["connect"]["ttl"] > 3000
        assert api.call("refresh", user="ada", expire_at=int(time.time()) + 100) == {}
        assert 90 < ada.push()["refresh"]["ttl"] <= 100
        api.call("refresh", user="ada", client="nobody", expired=True)
        api.call("refresh", user="ada")
        assert ada.push()["refresh"] == {}
        api.call("refresh", user="ada", expire_at=int(time.time()) - 1)
        assert ada.close_code() == (3005, "connection expired")
        bob.subscribe("still")


def test_refresh_can_end_a_connection(site: Site, api: Api) -> None:
    """With the code after which SDKs come back with a fresh token."""
    with native(site, "ada") as one, native(site, "ada") as other:
        api.call("refresh", user="ada", client=one.id, expired=True)
        assert one.close_code() == (3005, "connection expired")
        other.subscribe("still")


def test_revoke_by_user(site: Site, api: Api) -> None:
    """What the user has by now is closed and refused, on every way in; tokens issued later pass, others too.

    One that was issued about then makes its client come back with another one, for clocks differ. The answer tells from
    when on there is no doubt: a token of that moment is good at once, though the moment is still to come.
    """
    old, grant = (
        connection_token(SECRET, "eve", now=time.time() - 60),
        subscription_token(SECRET, "eve", "closed:room", now=time.time() - 60),
    )
    with native(site, token=old) as one, settled(site, "a", query=f"?token={old}") as other, native(site, "bob") as bob:
        result = api.call("revoke", user="eve")
        issued_before = result["issued_before"]
        assert result["num_clients"] == 2
        assert issued_before > time.time() + 1
        assert one.close_code() == (3500, "invalid token")
        assert close_of(other) == (3500, "invalid token")
        for token in (old, grant):
            with plain(site, "closed:room", query=f"?token={token}") as client:
                assert close_of(client) == (3500, "invalid token")
        with native(site, token=connection_token(SECRET, "eve", now=issued_before - 1)) as soon:
            assert soon.connected["error"]["code"] == 109
        with native(site, token=connection_token(SECRET, "eve", now=issued_before)) as again:
            again.subscribe("news")
            assert again.command(subscribe={"channel": "closed:room", "token": grant})["error"]["code"] == 103
            again.subscribe("closed:room", subscription_token(SECRET, "eve", "closed:room", now=issued_before))
        assert "refresh" in bob.command(refresh={"token": connection_token(SECRET, "bob")})


def test_revoke_by_jti(site: Site, api: Api) -> None:
    """Only that token and what lives on it, be it a connection or a subscription."""
    stolen = connection_token(SECRET, "ada", jti="stolen")
    good = connection_token(SECRET, "ada", jti="good")
    grant = subscription_token(SECRET, "ada", "closed:room", jti="grant")
    with native(site, token=stolen) as one, native(site, token=good) as two, native(site, token=good) as three:
        two.subscribe("closed:room", grant)
        assert api.call("revoke", jti="stolen", expire_at=int(time.time()) + 3600) == {"num_clients": 1}
        assert one.close_code() == (3500, "invalid token")
        api.call("revoke", jti="grant")
        assert two.close_code() == (3500, "invalid token")
        assert three.command(subscribe={"channel": "closed:room", "token": grant})["error"]["code"] == 103
        assert three.command(refresh={"token": good})["refresh"]["client"] == three.id
    with plain(site, "a", query=f"?token={stolen}") as client:
        assert close_of(client) == (3500, "invalid token")


def test_kick(site: Site, api: Api) -> None:
    """The user leaves one channel, on all its connections; the tokens it has open it no more, and a fresh one does."""
    channel = "$closed:room#mallory"

    def grant(issued_at: float) -> str:
        return subscription_token(SECRET, "mallory", channel, now=issued_at)

    old = connection_token(SECRET, "mallory", subs={channel: {}, "closed:b": {}})
    with native(site, token=old) as one, native(site, "mallory") as other, native(site, "bob") as bob:
        other.subscribe(channel, grant(time.time()))
        bob.subscribe(channel, subscription_token(SECRET, "bob", channel))
        result = api.call("kick", user="mallory", channel=channel, expire_at=int(time.time()) + 3600)
        issued_before = result["issued_before"]
        assert result["num_clients"] == 2
        for client in (one, other):
            assert client.push() == {"channel": channel, "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
            for issued_at in (time.time(), issued_before - 1):
                reply = client.command(subscribe={"channel": channel, "token": grant(issued_at)})
                assert reply["error"]["code"] == 109
        with native(site, token=old) as again:
            assert list(again.connected["connect"]["subs"]) == ["closed:b"]
        one.subscribe(channel, grant(issued_before))
        api.call("publish", channel=channel, data=1)
        for client in (one, bob):
            assert client.push() == {"channel": channel, "pub": {"data": 1}}
        # What the second kick covers, the first did not: they are kept as one.
        assert api.call("kick", user="mallory", channel=channel)["issued_before"] > issued_before
        assert one.push()["unsubscribe"]["code"] == 2000
        assert one.command(subscribe={"channel": channel, "token": grant(issued_before)})["error"]["code"] == 109


@pytest.mark.parametrize("user", ["a:b", "a\0b", "#", "ü" * 255, "a,b"])
def test_kick_means_one_user(site: Site, api: Api, user: str) -> None:
    """Whatever is in its id; and one who is not there is kicked all the same."""
    old = subscription_token(SECRET, user, "closed:odd", now=time.time() - 60)
    assert api.call("kick", user=user, channel="closed:odd")["num_clients"] == 0
    with native(site, user) as client, native(site, "a") as other:
        assert client.command(subscribe={"channel": "closed:odd", "token": old})["error"]["code"] == 109
        other.subscribe("closed:odd", subscription_token(SECRET, "a", "closed:odd", now=time.time() - 60))


def test_kick_names_a_channel_that_can_be(site: Site, api: Api) -> None:
    """A misspelt one would seem to have worked."""
    assert api.error("kick", user="ada", channel="nowhere:room")[0] == 102
    assert api.error("kick", user="ada", channel="röom")[0] == 107


@pytest.fixture(scope="module", params=["", "user"])
def personal(request: pytest.FixtureRequest) -> Iterator[tuple[Site, str]]:
    """A node with personal channels, and the start of their names."""
    namespace: str = request.param
    settings = settings_of(personal={"enabled": True, "namespace": namespace}, namespaces={"user": {}, "chat": OPEN})
    with running(settings) as site:
        yield site, f"{namespace}:#" if namespace else "#"


def test_personal_channels_address_a_user_on_all_devices(personal: tuple[Site, str]) -> None:
    """Without a subscription; nobody else may subscribe; anonymous clients have none."""
    site, start = personal
    with (
        Api(site) as api,
        plain(site, f"{start}ada", query=f"?token={connection_token(SECRET, 'ada')}") as other,
        native(site, "ada") as one,
        native(site, "bob") as bob,
        native(site) as anonymous,
    ):
        assert one.connected["connect"]["subs"] == {f"{start}ada": {}}
        assert bob.connected["connect"]["subs"] == {f"{start}bob": {}}
        assert "subs" not in anonymous.connected["connect"]
        for client in (bob, anonymous):
            assert client.command(subscribe={"channel": f"{start}ada"})["error"]["code"] == 103
        while api.call("channels")["channels"].get(f"{start}ada") != {"num_clients": 2}:
            pass  # the plain client is told nothing
        api.call("publish", channel=f"{start}ada", data="for you")
        assert one.push() == {"channel": f"{start}ada", "pub": {"data": "for you"}}
        assert other.recv(10) == '"for you"'
        api.call("publish", channel=f"{start}bob", data=1)
        assert bob.push() == {"channel": f"{start}bob", "pub": {"data": 1}}


class HalfDeafBroker(ManualBroker):
    """Knows three nodes, of which two answer."""

    async def control(self, message: Control) -> ControlResult:
        return ControlResult(nodes=3, replies=2, affected=1)


def test_nodes_that_do_not_answer_are_told() -> None:
    """Done is what every node has done; otherwise the backend learns that it may have to repeat."""
    channels = Channels(settings_of())
    assembly = Assembly(
        Profile(NodeId("1"), "one"),
        broker=HalfDeafBroker(),
        registry=DictRegistry(),
        presence=MemoryPresence(lambda channel, event: None, Metrics()),
        channels=channels,
        revocations=Revocations(),
        scheduler=ManualScheduler(),
        metrics=Metrics(),
    )
    with pytest.raises(RequestError, match="2 of 3 nodes answered") as caught:
        asyncio.run(Users(assembly.administration, channels, settings_of()).disconnect(DisconnectRequest(user="ada")))
    assert caught.value.error == INTERNAL
