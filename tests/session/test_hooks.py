"""What sessions ask the application, and what they make of its decisions. How hooks run: tests/hooks."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.channels import Channels
from gateway.control import RevokeTokens
from gateway.errors import INTERNAL, PERMISSION_DENIED, CloseCode, Disconnect, RequestError
from gateway.hooks.decisions import Accepted, Admitted, Allowed, Application, Asks, Extended, Opened, Undecided
from gateway.messages import Connect, Kind, Subscribe
from tests.session.conftest import Client, World

UNCHANGED = Accepted(None, Kind.JSON, None, "", skip_history=False)
ALLOWED = Allowed(b"", b"", 0)
CLOSES = CloseCode(4500, "banned")
UNDECIDED = Undecided(RequestError(INTERNAL))


def admitted(user: str | None = None, **fields: Any) -> Admitted:
    nothing: dict[str, Any] = {"info": None, "data": b"", "expire_at": None, "channels": {}, "meta": None}
    return Admitted(user, **{**nothing, **fields})


class Hook:
    """Keeps what it is asked; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Callable[[Any], None]]] = []

    def __call__(self, request: Any, done: Callable[[Any], None]) -> None:
        self.asked.append((request, done))

    def answer(self, decision: Any) -> Any:
        """Decide about the oldest request, which is returned."""
        request, done = self.asked.pop(0)
        done(decision)
        return request


@pytest.fixture
def world() -> World:
    """Without pings, which would have to be answered."""
    return World(heartbeat={"ping_interval": 3600})


@pytest.fixture
def hook() -> Hook:
    return Hook()


def install(world: World, **asks: Any) -> None:
    """Hooks by their kind; those for channels and methods are for all names."""
    plain = ("connect", "refresh")
    hooks: dict[str, Any] = {kind: ask if kind in plain else Asks({}, ask) for kind, ask in asks.items()}
    world.services.application = Application(**hooks)


class TestConnect:
    """Who a client is."""

    @pytest.fixture(autouse=True)
    def installed(self, world: World, hook: Hook) -> None:
        world.services.anonymous = False
        install(world, connect=hook)

    def test_the_hook_says_who_a_client_without_a_token_is(self, world: World, hook: Hook) -> None:
        """By a cookie, for example. It can add to the reply, and to what others see of the client."""
        client = world.open()
        assert client.send({"id": 1, "connect": {"data": {"v": 1}, "name": "js", "version": "5"}}) == []
        decision = admitted("ann", info=b'{"n":"Ann"}', data=b'{"hi":1}', meta="kept")
        request = hook.answer(decision)
        assert (request.user, request.cookie("session"), request.data) == ("", "s3", {"v": 1})
        assert (request.name, request.version, request.client) == ("js", "5", client.session.client)
        assert (request.address, request.protocol, request.transport) == ("192.0.2.1", "centrifuge", "websocket")
        (reply,) = client.got()
        assert reply["connect"]["data"] == {"hi": 1}
        assert client.session.user.name == "ann"
        client.send({"id": 2, "subscribe": {"channel": "news"}})
        client.send({"id": 3, "publish": {"channel": "news", "data": 1}})
        ((publication, _),) = world.broker.published
        assert publication.info is not None
        assert (publication.info.user, publication.info.conn_info) == ("ann", b'{"n":"Ann"}')

    def test_the_request_is_not_kept(self, world: World, hook: Hook) -> None:
        """It holds all headers."""
        client = world.open()
        client.send({"id": 1, "connect": {}})
        hook.answer(admitted("ann"))
        assert client.session.peer is not None
        assert client.session.peer.handshake is None

    def test_a_token_is_verified_first(self, world: World, hook: Hook) -> None:
        """And says who the client is, unless the hook does."""
        for decision, user in ((admitted(), "ann"), (admitted("bob"), "bob")):
            client = world.open()
            client.send({"id": 1, "connect": {"token": world.token("ann")}})
            assert hook.answer(decision).user == "ann"
            assert client.session.user.name == user
        client = world.open()
        client.send({"id": 1, "connect": {"token": "no token"}})
        assert (hook.asked, client.closed_with()) == ([], errors.INVALID_TOKEN)

    def test_a_hook_that_names_nobody_lets_nobody_in(self, world: World, hook: Hook) -> None:
        """Unless anonymous clients are let in anyway, or the hook says that the client is one."""
        client = world.open()
        client.send({"id": 1, "connect": {}})
        hook.answer(admitted())
        assert client.closed_with() == errors.BAD_COMMAND
        for anonymous, user in ((True, None), (False, "")):
            world.services.anonymous = anonymous
            client = world.open()
            client.send({"id": 1, "connect": {}})
            hook.answer(admitted(user))
            assert "connect" in client.got()[0]
            assert client.session.user.name == ""

    def test_it_can_refuse(self, world: World, hook: Hook) -> None:
        """With an error, which ends the connection if the client does not, or with a code."""
        client = world.open()
        client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "news"}})
        hook.answer(RequestError(PERMISSION_DENIED))
        assert client.got() == [{"id": 1, "error": {"code": 103, "message": "permission denied"}}]
        world.scheduler.advance(6)
        assert client.closed_with() == errors.CONNECTION_CLOSED
        client = world.open()
        client.send({"id": 1, "connect": {}})
        hook.answer(Disconnect(CLOSES))
        assert client.closed_with() == CLOSES

    def test_it_can_name_channels(self, world: World, hook: Hook) -> None:
        """Beside those of the token. A plain connection gets its own channel only."""
        channels = {"news": Opened(b'{"i":1}', b'{"d":1}'), "other": Opened(b"", b"")}
        client = world.open()
        client.send({"id": 1, "connect": {"token": world.token("ann", channels=["third"])}})
        hook.answer(admitted(channels=channels))
        (reply,) = client.got()
        assert reply["connect"]["subs"] == {"third": {}, "news": {"data": {"d": 1}}, "other": {}}
        assert client.session.subs["news"].info == b'{"i":1}'
        plain = world.open_plain(Connect(1), Subscribe(2, "news"), channel="news")
        hook.answer(admitted("ann", channels=channels))
        assert list(plain.session.subs) == ["news"]

    def test_a_channel_that_is_none_closes(self, world: World, hook: Hook) -> None:
        """The client cannot do anything about it, and is told to come back later."""
        client = world.open()
        client.send({"id": 1, "connect": {}})
        hook.answer(admitted("ann", channels={"two words": Opened(b"", b"")}))
        (reply,) = client.got()
        assert reply["error"]["code"] == 107

    def test_a_subscription_token_opens_its_channel_only(self, world: World, hook: Hook) -> None:
        """Also when a hook sees the plain connection that has it."""
        token = world.grant("ann", "closed:a")
        plain = world.open_plain(Connect(1, token, by_grant=True), Subscribe(2, "closed:a", token), channel="closed:a")
        assert hook.answer(admitted()).user == "ann"
        assert list(plain.session.subs) == ["closed:a"]
        assert plain.closed_with() is None

    def test_an_answer_that_comes_too_late_goes_nowhere(self, world: World, hook: Hook) -> None:
        client = world.open()
        client.send({"id": 1, "connect": {}})
        client.session.closed(1006, "")
        hook.answer(admitted("ann"))
        assert len(world.clients) == 0

    def test_revoking_the_user_closes_it(self, world: World, hook: Hook) -> None:
        """Though there was no token; when it comes back, the hook is asked again."""
        client = world.open()
        client.send({"id": 1, "connect": {}})
        hook.answer(admitted("ann"))
        now = int(world.scheduler.time())
        assert world.node.on_control(RevokeTokens("default", user="ann", issued_before=now)) == 1
        assert client.closed_with() == errors.CONNECTION_EXPIRED

    @pytest.mark.parametrize("token", [False, True])
    def test_revoking_the_user_while_it_is_asked(self, world: World, hook: Hook, token: bool) -> None:
        """It decided before it could know. An older token is refused; without one, the hook is asked again."""
        client = world.open()
        client.send({"id": 1, "connect": {"token": world.token("ann") if token else ""}})
        world.scheduler.advance(2)
        world.node.on_control(RevokeTokens("default", user="ann", issued_before=int(world.scheduler.time())))
        hook.answer(admitted("ann"))
        assert client.closed_with() == (errors.INVALID_TOKEN if token else None)
        if not token:
            assert client.got()[0]["error"]["temporary"]
        assert len(world.clients) == 0
        again = world.open()
        again.send({"id": 1, "connect": {}})
        hook.answer(admitted("ann"))
        assert "connect" in again.got()[0]

    def test_without_a_decision_the_settings_decide(self, world: World, hook: Hook) -> None:
        """Who has a token is whom it names; who has none is anonymous, or comes back later."""
        client = world.open()
        client.send({"id": 1, "connect": {"token": world.token("ann")}})
        hook.answer(UNDECIDED)
        assert client.session.user.name == "ann"
        assert client.session.peer is not None
        assert (client.session.peer.handshake, client.session.peer.meta) == (None, None)
        for anonymous, reply in ((True, "connect"), (False, "error")):
            world.services.anonymous = anonymous
            client = world.open()
            client.send({"id": 1, "connect": {}})
            hook.answer(UNDECIDED)
            (got,) = client.got()
            assert got.keys() == {"id", reply}
        assert got["error"]["temporary"]

    def test_a_subscription_token_is_enough_without_a_decision(self, world: World, hook: Hook) -> None:
        """For its channel, as without a hook."""
        token = world.grant("ann", "closed:a")
        plain = world.open_plain(Connect(1, token, by_grant=True), Subscribe(2, "closed:a", token), channel="closed:a")
        hook.answer(UNDECIDED)
        assert list(plain.session.subs) == ["closed:a"]
        assert plain.session.user.name == "ann"

    def test_it_sees_in_which_channels_the_client_was(self, world: World, hook: Hook) -> None:
        client = world.open()
        client.send({"id": 1, "connect": {"subs": {"news": {"recover": True, "offset": 3, "epoch": "e"}}}})
        assert hook.answer(admitted("ann")).channels == ("news",)


class TestRefresh:
    """A connection whose expiry the application has set."""

    @pytest.fixture
    def client(self, world: World, hook: Hook) -> Client:
        install(world, connect=hook, refresh=hook)
        client = world.open()
        client.send({"id": 1, "connect": {}})
        hook.answer(admitted("ann", expire_at=int(world.scheduler.time()) + 10, meta="kept"))
        (reply,) = client.got()
        assert "expires" not in reply["connect"]
        return client

    def test_the_hook_extends_it_in_silence(self, world: World, client: Client, hook: Hook) -> None:
        for _ in range(3):
            world.scheduler.advance(9)
            assert hook.asked == []
            world.scheduler.advance(1.5)
            ((request, _),) = hook.asked
            assert (request.user, request.meta) == ("ann", "kept")
            hook.answer(Extended(int(world.scheduler.time()) + 10))
        assert client.closed_with() is None

    def test_it_may_change_what_others_see(self, world: World, client: Client, hook: Hook) -> None:
        for given, seen in ((b'{"n":2}', b'{"n":2}'), (None, b'{"n":2}')):
            world.scheduler.advance(10.5)
            hook.answer(Extended(int(world.scheduler.time()) + 10, given))
            assert client.session.member("news").conn_info == seen

    @pytest.mark.parametrize(
        ("decision", "code"),
        [
            (RequestError(PERMISSION_DENIED), errors.CONNECTION_EXPIRED),
            (RequestError(INTERNAL), errors.CONNECTION_EXPIRED),
            (Disconnect(CLOSES), CLOSES),
        ],
    )
    def test_or_ends_it(
        self, world: World, client: Client, hook: Hook, decision: RequestError | Disconnect, code: CloseCode
    ) -> None:
        """Where the client may come back, the connect hook is asked again."""
        world.scheduler.advance(10.5)
        hook.answer(decision)
        assert client.closed_with() == code

    def test_a_refresh_by_the_server_is_not_told_either(self, world: World, client: Client, hook: Hook) -> None:
        """The client would answer with a token that it does not have."""
        later = int(world.scheduler.time()) + 20
        client.session.refresh_by_server(expired=False, expire_at=later)
        assert client.got() == []
        world.scheduler.advance(15)
        assert hook.asked == []
        world.scheduler.advance(5.5)
        hook.answer(Extended(0))

    def test_without_a_hook_it_ends(self, world: World, client: Client, hook: Hook) -> None:
        install(world, connect=hook)
        world.scheduler.advance(10.5)
        assert client.closed_with() == errors.CONNECTION_EXPIRED


class TestSubscribe:
    """Who may enter a channel."""

    @pytest.fixture(autouse=True)
    def installed(self, world: World, hook: Hook) -> None:
        install(world, subscribe=hook, sub_refresh=hook)

    def test_the_hook_decides_in_place_of_the_namespace(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        for number, channel in enumerate(("closed:a", "news"), 2):
            assert client.send({"id": number, "subscribe": {"channel": channel, "data": {"why": 1}}}) == []
            request = hook.answer(Allowed(b'{"i":1}', b'{"d":1}', 0))
            assert (request.user, request.channel, request.data) == ("ann", channel, {"why": 1})
            (reply,) = client.got()
            assert reply["subscribe"]["data"] == {"d": 1}
            assert client.session.subs[channel].info == b'{"i":1}'
        assert client.send({"id": 8, "subscribe": {"channel": "own:b"}}) == []
        hook.answer(RequestError(PERMISSION_DENIED))
        assert client.got() == [{"id": 8, "error": {"code": 103, "message": "permission denied"}}]
        assert "own:b" not in client.session.subs

    def test_tokens_and_protected_names_pass_it_by(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        grant = world.grant("ann", "$closed:a")
        assert "subscribe" in client.send({"id": 2, "subscribe": {"channel": "$closed:a", "token": grant}})[0]
        for number, channel in enumerate(("$closed:b", "closed:c#ann"), 3):
            assert client.send({"id": number, "subscribe": {"channel": channel}})[0]["error"]["code"] == 103
        assert hook.asked == []

    def test_others_go_on_meanwhile_and_the_channel_waits(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "news"}})
        assert client.send({"id": 3, "publish": {"channel": "other", "data": 1}}) == [{"id": 3, "publish": {}}]
        assert client.send({"id": 4, "unsubscribe": {"channel": "news"}}) == []
        hook.answer(ALLOWED)
        assert [next(iter(each.keys() - {"id"})) for each in client.got()] == ["subscribe", "unsubscribe"]

    def test_the_server_may_end_it_before_it_began(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "news"}})
        client.session.unsubscribe_by_server("news", errors.UNSUBSCRIBED_BY_SERVER)
        hook.answer(ALLOWED)
        assert [next(iter(each.keys() - {"id"})) for each in client.got()] == ["subscribe", "push"]
        assert client.session.subs == {}

    def test_the_hook_extends_a_subscription_in_silence(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "news"}})
        hook.answer(Allowed(b"", b"", int(world.scheduler.time()) + 10))
        (reply,) = client.got()
        assert "expires" not in reply["subscribe"]
        for _ in range(3):
            world.scheduler.advance(10.5)
            assert hook.answer(Extended(int(world.scheduler.time()) + 10)).channel == "news"
        assert client.got() == []

    def test_it_may_change_what_others_see(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "news"}})
        hook.answer(Allowed(b"1", b"", int(world.scheduler.time()) + 10))
        for given in (b"2", None):
            world.scheduler.advance(10.5)
            hook.answer(Extended(int(world.scheduler.time()) + 10, given))
            assert client.session.subs["news"].info == b"2"

    def test_without_a_decision_the_settings_decide(self, world: World, hook: Hook) -> None:
        """What they do not allow may be allowed later: the error is temporary."""
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "news"}})
        hook.answer(UNDECIDED)
        assert "subscribe" in client.got()[0]
        assert client.session.subs["news"].joined
        client.send({"id": 3, "subscribe": {"channel": "closed:a"}})
        hook.answer(UNDECIDED)
        assert client.got()[0]["error"] == {"code": 100, "message": "internal server error", "temporary": True}
        assert "closed:a" not in client.session.subs
        client.send({"id": 4, "subscribe": {"channel": "closed:a"}})
        hook.answer(ALLOWED)
        assert "subscribe" in client.got()[0]

    def test_it_ends_with_its_namespace(self, world: World, hook: Hook) -> None:
        """A reload may remove that. The client gets no reply, since it has sent nothing."""
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "members:a"}})
        hook.answer(Allowed(b"", b"", int(world.scheduler.time()) + 10))
        client.got()
        remaining = {name: each for name, each in world.settings.namespaces.items() if name != "members"}
        world.services.channels.adopt(Channels(world.settings.model_copy(update={"namespaces": remaining})))
        world.scheduler.advance(10.5)
        (push,) = client.got()
        assert push["push"]["unsubscribe"]["code"] == errors.UNSUBSCRIBED_EXPIRED.code

    @pytest.mark.parametrize("decision", [RequestError(PERMISSION_DENIED), RequestError(INTERNAL), None])
    def test_or_ends_it(self, world: World, hook: Hook, decision: RequestError | None) -> None:
        """Also when there is no hook to ask."""
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "news"}})
        hook.answer(Allowed(b"", b"", int(world.scheduler.time()) + 10))
        client.got()
        if decision is None:
            install(world, subscribe=hook)
        world.scheduler.advance(10.5)
        if decision is not None:
            hook.answer(decision)
        (push,) = client.got()
        assert push["push"]["unsubscribe"]["code"] == errors.UNSUBSCRIBED_EXPIRED.code


class TestPublish:
    """What clients may publish."""

    @pytest.fixture(autouse=True)
    def installed(self, world: World, hook: Hook) -> None:
        install(world, publish=hook)

    def test_the_hook_decides_in_place_of_the_namespace(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        assert client.send({"id": 2, "publish": {"channel": "closed:a", "data": {"n": 1}}}) == []
        request = hook.answer(UNCHANGED)
        assert (request.user, request.channel, request.data) == ("ann", "closed:a", {"n": 1})
        assert client.got() == [{"id": 2, "publish": {}}]
        assert [each.data for each, _ in world.broker.published] == [b'{"n": 1}']

    def test_it_can_rewrite(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        client.send({"id": 2, "publish": {"channel": "news", "data": 1}})
        hook.answer(Accepted(b"\xff", Kind.BINARY, {"a": "b"}, "key", skip_history=True))
        ((publication, options),) = world.broker.published
        assert (publication.data, publication.kind, publication.tags) == (b"\xff", Kind.BINARY, {"a": "b"})
        assert (options.idempotency_key, options.history) == ("key", None)

    @pytest.mark.parametrize(
        ("decision", "code"),
        [
            (RequestError(PERMISSION_DENIED), 103),
            (Accepted(b"x" * 100_000, Kind.JSON, None, "", skip_history=False), 100),
        ],
    )
    def test_what_is_denied_or_too_large_is_not_published(
        self, world: World, hook: Hook, decision: Any, code: int
    ) -> None:
        client = world.connect("ann")
        client.send({"id": 2, "publish": {"channel": "news", "data": 1}})
        hook.answer(decision)
        assert client.got()[0]["error"]["code"] == code
        assert world.broker.published == []

    def test_without_a_decision_the_settings_decide(self, world: World, hook: Hook) -> None:
        """What they do not allow may be allowed later: the error is temporary."""
        client = world.connect("ann")
        client.send({"id": 2, "subscribe": {"channel": "members:a"}})
        client.got()
        for channel, reply in (("news", "publish"), ("members:a", "publish"), ("members:b", "error")):
            client.send({"id": 3, "publish": {"channel": channel, "data": 1}})
            hook.answer(UNDECIDED)
            (got,) = (each for each in client.got() if "id" in each)
            assert got.keys() == {"id", reply}
        assert got["error"]["code"] == 100
        assert [each.channel.name for each, _ in world.broker.published] == ["news", "members:a"]

    def test_the_order_of_a_client_stays_and_others_go_on(self, world: World, hook: Hook) -> None:
        ann, bob = world.connect("ann"), world.connect("bob")
        ann.send(*({"id": number, "publish": {"channel": "news", "data": number}} for number in (2, 3)))
        bob.send({"id": 2, "publish": {"channel": "news", "data": "bob"}})
        (first, _), (second, done) = hook.asked
        assert (first.data, second.data) == (2, "bob")
        done(UNCHANGED)
        hook.answer(UNCHANGED)
        assert hook.asked[1][0].data == 3
        hook.asked.pop(0)
        hook.answer(UNCHANGED)
        assert [each.data for each, _ in world.broker.published] == [b'"bob"', b"2", b"3"]

    def test_protected_names_are_checked_first(self, world: World, hook: Hook) -> None:
        client = world.connect("ann")
        for number, channel in enumerate(("$closed:a", "closed:a#bob"), 2):
            reply = client.send({"id": number, "publish": {"channel": channel, "data": 1}})
            assert reply[0]["error"]["code"] == 103
        assert hook.asked == []


class TestRpc:
    """Calls, with an answer, with an error, without either."""

    @pytest.fixture
    def client(self, world: World, hook: Hook) -> Client:
        world.services.application = Application(rpc=Asks({"sum": hook, "": hook}))
        return world.connect("ann")

    def test_the_application_answers(self, client: Client, hook: Hook) -> None:
        """Others have their turn meanwhile."""
        call = {"id": 5, "rpc": {"method": "sum", "data": [1, 2]}}
        assert client.send(call, {"id": 6, "publish": {"channel": "news", "data": 1}}) == [{"id": 6, "publish": {}}]
        request = hook.answer(b"3")
        assert (request.user, request.client, request.method) == ("ann", client.session.client, "sum")
        assert (request.data, request.is_answered) == ([1, 2], True)
        assert client.got() == [{"id": 5, "rpc": {"data": 3}}]

    def test_an_error_is_the_reply(self, client: Client, hook: Hook) -> None:
        client.send({"id": 5, "rpc": {"method": "sum"}})
        hook.answer(RequestError(PERMISSION_DENIED))
        assert client.got() == [{"id": 5, "error": {"code": 103, "message": "permission denied"}}]

    def test_a_method_without_a_hook_is_unknown(self, client: Client, hook: Hook) -> None:
        assert client.send({"id": 5, "rpc": {"method": "product"}})[0]["error"]["code"] == 104
        assert hook.asked == []

    def test_a_message_without_an_answer_gets_none(self, client: Client, hook: Hook) -> None:
        client.send({"send": {"data": "hi"}})
        request = hook.answer(b"ignored")
        assert (request.method, request.data, request.is_answered) == ("", "hi", False)
        assert client.got() == []
        assert client.closed_with() is None

    def test_a_message_that_nobody_heard_closes(self, client: Client, hook: Hook) -> None:
        """There is no reply that could say so."""
        client.send({"send": {"data": "hi"}})
        hook.answer(RequestError(PERMISSION_DENIED))
        assert client.closed_with() == errors.NO_HANDLER

    def test_an_answer_that_comes_too_late_goes_nowhere(self, client: Client, hook: Hook) -> None:
        client.send({"id": 5, "rpc": {"method": "sum"}})
        client.session.closed(1006, "")
        hook.answer(b"3")
        assert client.got() == []

    def test_a_fault_closes_the_connection(self, world: World, client: Client) -> None:
        """With 3004, after which clients come back; nobody else notices."""
        other = world.connect("bob")

        def broken(request: Any, done: Callable[[Any], None]) -> None:
            raise ZeroDivisionError

        install(world, rpc=broken)
        client.send({"id": 5, "rpc": {"method": "sum"}})
        assert client.closed_with() == errors.SERVER_ERROR
        assert other.closed_with() is None
