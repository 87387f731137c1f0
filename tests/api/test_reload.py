"""Reload: other settings while clients are connected. All of them, or none."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.api.cluster_methods import Cluster
from gateway.api.request_shapes import InfoRequest, ReloadRequest
from gateway.config import sources
from gateway.config.reloading import Source
from gateway.config.settings import ServerSettings
from gateway.control import Control, ControlResult, NodeId, NodeInfo, Reloaded, ReloadSettings
from gateway.errors import ConfigError
from gateway.node.administration import Administration
from gateway.tokens import connection_token
from tests.api.clients import Native, close_of, native, plain, settled
from tests.api.conftest import Api
from tests.api.site import KEY, OPEN, SECRET, Site, running, settings_of
from tests.api.test_cluster_methods import eventually

FRESH = "another secret of the tests, longer than 32 bytes"


class Again:
    """A running node, and what it would read."""

    def __init__(self, settings: ServerSettings) -> None:
        self.given: Callable[[], ServerSettings] = lambda: settings
        self.source = Source(self.read, settings)

    def read(self) -> ServerSettings:
        return self.given()

    def set(self, **sections: Any) -> None:
        fresh = settings_of(node_name="one", **sections)
        self.given = lambda: fresh


@pytest.fixture
def again() -> Again:
    return Again(settings_of(node_name="one"))


@pytest.fixture
def site(again: Again) -> Iterator[Site]:
    with running(again.source.first, again.source) as node:
        yield node


def reloaded(api: Api, **body: Any) -> dict[str, Any]:
    (node,) = api.call("reload", **body)["nodes"]
    assert node["name"] == "one"
    return {name: node[name] for name in ("error", "changed", "needs_restart")}


def works(client: Native, api: Api) -> None:
    """It is still subscribed to `news`."""
    assert api.call("publish", channel="news", data=1) == {}
    assert client.publication()["data"] == 1


def token(secret: str, **claims: Any) -> str:
    return connection_token(secret, "ada", **claims)


def refusal(site: Site, **options: Any) -> int:
    """The code with which a connect is refused."""
    with pytest.raises(ConnectionClosed) as closed, native(site, **options):
        pass
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_nothing_new_changes_nothing(api: Api) -> None:
    assert reloaded(api) == {"error": "", "changed": [], "needs_restart": []}


def test_keys_change_and_connections_stay(site: Site, api: Api, again: Again) -> None:
    """The old keys open nothing any more; who came with them stays."""
    with native(site, "ada") as client, settled(site, "chat:a") as other:
        client.subscribe("news")
        again.set(auth={"hmac_secret": FRESH}, api={"keys": ["the second key"]})
        assert reloaded(api)["changed"] == ["auth.anonymous", "auth.hmac_secret", "api.keys"]
        assert api.http.post("/api/info", json={}).status_code == 401
        api.http.headers["X-API-Key"] = "the second key"
        assert refusal(site, token=token(SECRET)) == 3500
        # Anonymous clients are not let in any more.
        assert refusal(site) == 3501
        with plain(site, "chat:a") as late:
            assert close_of(late)[0] == 3501
        with native(site, token=token(FRESH)) as fresh:
            assert fresh.id
        works(client, api)
        other.send("still")
        assert other.recv(10) == "still"
        # What proves who it is again, has to do so with the new key.
        assert client.command(refresh={"token": token(FRESH)})["refresh"]["client"] == client.id
        client.socket.send(json.dumps({"id": 99, "refresh": {"token": token(SECRET)}}))
        assert client.close_code()[0] == 3500


def test_namespaces_change(site: Site, api: Api, again: Again) -> None:
    """New ones are there, others are gone or have other rules; subscriptions stay."""
    with native(site, "ada") as client, native(site, "bob") as other:
        for each in (client, other):
            each.subscribe("chat:a")
        assert client.command(subscribe={"channel": "fresh:a"})["error"]["code"] == 102
        again.set(namespaces={"fresh": {**OPEN, "delivery": "recoverable"}, "closed": {"allow_subscribe": ["client"]}})
        assert reloaded(api)["changed"] == ["namespaces.chat", "namespaces.closed.allow_subscribe", "namespaces.fresh"]
        assert client.command(subscribe={"channel": "fresh:a"})["subscribe"]["recoverable"]
        client.subscribe("closed:a")
        assert client.command(publish={"channel": "chat:a", "data": 1})["error"]["code"] == 102
        assert api.error("publish", channel="chat:a", data=1)[0] == 102
        assert other.command(unsubscribe={"channel": "chat:a"})["unsubscribe"] == {}
        assert other.command(subscribe={"channel": "chat:a"})["error"]["code"] == 102
        again.set()
        reloaded(api)
        assert api.call("publish", channel="chat:a", data=2) == {}
        assert client.publication()["data"] == 2


def test_a_channel_stays_delivered_as_it_is(site: Site, api: Api, again: Again) -> None:
    """Its subscribers count on it; the rest of its options change."""
    again.set(namespaces={"log": {**OPEN, "delivery": "recoverable"}})
    reloaded(api)
    with native(site, "ada") as client:
        client.subscribe("log:a")
        again.set(namespaces={"log": {**OPEN, "delivery": "latest", "history_ttl": 9, "history_size": 2}})
        assert reloaded(api) == {
            "error": "",
            "changed": ["namespaces.log.history_ttl"],
            "needs_restart": ["namespaces.log.delivery", "namespaces.log.history_size"],
        }
        again.set(namespaces={"log": {**OPEN, "delivery": "recoverable", "history_size": 2}})
        assert reloaded(api)["needs_restart"] == []
        offsets = [api.call("publish", channel="log:a", data=number)["offset"] for number in range(4)]
        assert offsets == [1, 2, 3, 4]
        assert [client.publication()["offset"] for _ in offsets] == offsets
        assert [each["offset"] for each in api.call("history", channel="log:a", limit=-1)["publications"]] == [3, 4]


def test_origins_and_limits_change(site: Site, api: Api, again: Again) -> None:
    """For who comes; of who is there, what counts with every command."""
    page = "https://example.com"
    with native(site, "ada") as client:
        client.subscribe("news")
        with pytest.raises(InvalidStatus, match="403"), native(site, origin=page):
            pass
        again.set(
            origins={"allowed": [page]},
            limits={"channels": 1, "message_size": 1000, "connections_per_address": 2, "header_count": 50},
        )
        assert len(reloaded(api)["changed"]) == 5
        assert client.command(subscribe={"channel": "other"})["error"]["code"] == 106
        assert api.error("publish", channel="news", data="x" * 1000)[0] == 107
        with native(site, "ada", origin=page) as other:
            with settled(site, "news"), pytest.raises(InvalidStatus, match="429"), plain(site, "news"):
                pass
            other.socket.send(" " * 1001)
            assert other.close_code()[0] == 1009
        headers = {f"x{number}": "" for number in range(50)}
        with pytest.raises(InvalidStatus, match="431"), native(site, additional_headers=headers):
            pass
        assert client.publication()["data"] == "hello"
        assert client.command(publish={"channel": "news", "data": "x" * 900})["publish"] == {}
        assert client.publication()["data"] == "x" * 900
        works(client, api)


def test_what_needs_a_restart_is_said(site: Site, api: Api, again: Again, caplog: pytest.LogCaptureFixture) -> None:
    """In the answer and in the log, every time; the rest is applied."""
    caplog.set_level("INFO")
    again.set(limits={"channels": 7}, redis={"url": "redis://user:hidden@h:1"}, listen="127.0.0.1:7", no_auth=True)
    waiting = ["listen", "no_auth", "redis.url"]
    assert reloaded(api) == {"error": "", "changed": ["limits.channels"], "needs_restart": waiting}
    assert reloaded(api) == {"error": "", "changed": [], "needs_restart": waiting}
    said = [record for record in caplog.records if record.message == "settings have changed that need a restart"]
    assert [vars(record)["settings"] for record in said] == [", ".join(waiting)] * 2
    done = [record for record in caplog.records if record.message == "reloaded the settings"]
    assert [vars(record)["changed"] for record in done] == ["limits.channels", "nothing"]
    assert "hidden" not in caplog.text
    assert api.http.post("/api/info", json={}, headers={"X-API-Key": "wrong"}).status_code == 401


BAD_KEY = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"auth": {"hmac_secret": "short"}}, "auth.hmac_secret: has 5 bytes"),
        ({"auth": {"public_key": BAD_KEY}}, "auth.public_key"),
        ({"auth": {"jwks_file": "missing.json"}}, "auth.jwks_file"),
        ({"origins": {"allowed": ["x://a:b"]}}, "origins.allowed"),
        ({"personal": {"enabled": True, "namespace": "nowhere"}}, "personal.namespace"),
    ],
)
def test_what_cannot_be_used_changes_nothing(
    site: Site, api: Api, again: Again, caplog: pytest.LogCaptureFixture, sections: dict[str, Any], text: str
) -> None:
    """Of all that is new, whatever of it is wrong. The answer and the log say why."""
    good = {
        "auth": {"hmac_secret": FRESH},
        "api": {"keys": ["the second key"]},
        "namespaces": {},
        "limits": {"channels": 1},
        "channels": {},
    }
    again.set(**{**good, **sections})
    with native(site, "ada") as client:
        client.subscribe("news")
        answer = reloaded(api)
        assert text in answer["error"]
        assert (answer["changed"], answer["needs_restart"]) == ([], [])
        assert text in caplog.text
        client.subscribe("chat:a")
        works(client, api)
        with native(site, "bob") as other:
            other.subscribe("news")
    again.set(**good)
    assert reloaded(api)["error"] == ""


def broken(error: Exception) -> Callable[[], ServerSettings]:
    def read() -> ServerSettings:
        raise error

    return read


def test_what_cannot_be_read_changes_nothing(site: Site, api: Api, again: Again) -> None:
    """A wrong file, and whatever else may happen."""
    again.given = broken(ConfigError("gateway.toml: not TOML"))
    assert reloaded(api) == {"error": "gateway.toml: not TOML", "changed": [], "needs_restart": []}
    again.given = broken(OSError("disk"))
    assert reloaded(api)["error"] == "internal error; the log of the node has it"
    with native(site, "ada") as client:
        client.subscribe("news")
        works(client, api)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[auth",
        "\0",
        "auth = 1",
        "[limits]\nchannels = 0",
        "listne = 'x'",
        "[namespaces.'a b']",
        "[auth]\nhmac_secret = 'x'",
    ],
)
def test_a_file_that_somebody_is_writing(tmp_path: Path, text: str) -> None:
    """What is no settings changes nothing. What is counts, an empty file too."""
    path = tmp_path / "gateway.toml"
    path.write_text(f"[auth]\nhmac_secret = '{SECRET}'\n[api]\nkeys = ['{KEY}']\n")

    def read() -> ServerSettings:
        return sources.read(path, {}, {}).settings

    with running(read(), Source(read, read())) as site, Api(site) as api:
        path.write_text(text)
        (node,) = api.call("reload")["nodes"]
        if not text:
            assert node["changed"] == ["auth.hmac_secret", "api.keys"]
            return
        assert str(path) in node["error"] or "auth.hmac_secret" in node["error"]
        with native(site, "ada") as client:
            assert client.id
        path.unlink()
        (node,) = api.call("reload")["nodes"]
        assert "cannot be read" in node["error"]


def test_new_warnings_are_logged(site: Site, api: Api, again: Again, caplog: pytest.LogCaptureFixture) -> None:
    """And those that were there before are not repeated."""
    again.set(limits={"keep_alive": 5})
    assert reloaded(api)["error"] == ""
    assert caplog.text.count("limits.keep_alive is less than") == 1
    reloaded(api)
    assert caplog.text.count("limits.keep_alive is less than") == 1


def test_a_node_without_sources_says_so() -> None:
    """One that is embedded in another application."""
    with running(settings_of(node_name="one")) as site, Api(site) as api:
        assert "was not started from settings" in reloaded(api)["error"]


def test_one_node_can_be_named(site: Site, api: Api, again: Again) -> None:
    """By name and by uid; one that is not there is refused."""
    again.set(limits={"channels": 7})
    assert reloaded(api, node="one")["changed"] == ["limits.channels"]
    assert reloaded(api, node=site.gateway.administration.profile.uid)["changed"] == []
    assert api.error("reload", node="two") == (107, "bad request: node 'two': no such node; the nodes are: one")


def test_a_command_of_a_batch(api: Api) -> None:
    """Like any other."""
    (reply,) = api.post("batch", {"commands": [{"reload": {}}]})["replies"]
    assert reply["reload"]["nodes"][0]["error"] == ""


def test_a_node_that_does_not_answer_is_named(site: Site) -> None:
    """Its name stands with the others; one that came meanwhile is there by its uid."""
    known = [NodeInfo(NodeId(uid), f"node {uid}", "0", 0) for uid in "ab"]

    class Half:
        async def nodes(self) -> list[NodeInfo]:
            return known

        async def control(self, message: Control) -> ControlResult:
            assert message == ReloadSettings()
            return ControlResult.of(3, [Reloaded(NodeId("b"), changed=["listen"]), Reloaded(NodeId("c"))])

    result = site.run(Cluster(cast(Administration, Half())).reload(ReloadRequest()))
    assert [(node.name, node.error[:14], node.changed) for node in result.nodes] == [
        ("node a", "it did not ans", []),
        ("node b", "", ["listen"]),
        ("c", "", []),
    ]


# What differs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"auth": "1"}] * 2, [[], []]),
        ([{"auth": "1"}] * 2 + [{"auth": "2"}], [[], [], ["auth"]]),
        # Nobody knows which of two is right.
        ([{"auth": "1", "api": "1"}, {"auth": "2", "api": "1"}], [["auth"], ["auth"]]),
        ([{"auth": "1"}, {"auth": "2"}, {"auth": "3"}], [["auth"]] * 3),
        # Versions that do not say, or know fewer sections.
        ([{}, {"auth": "1"}, {"auth": "1", "new": "1"}], [[], [], []]),
        ([{}], [[]]),
        ([{"bus": 1, "auth": "1"}] * 2 + [{"bus": 2, "auth": "1"}], [[], [], ["bus"]]),
        ([{"bus": 1}, {"bus": 2}, {"bus": 0}], [["bus"], ["bus"], []]),
    ],
)
def test_nodes_that_differ_are_shown(site: Site, given: list[dict[str, Any]], expected: list[list[str]]) -> None:
    """Where, and which of them: those that are not as most are."""
    infos = []
    for number, each in enumerate(given):
        settings = {name: value for name, value in each.items() if name != "bus"}
        infos.append(NodeInfo(NodeId(str(number)), "n", "0", 0, bus=each.get("bus", 0), settings=settings))

    class Known:
        async def nodes(self) -> list[NodeInfo]:
            return infos

    result = site.run(Cluster(cast(Administration, Known())).info(InfoRequest()))
    assert [node.differs for node in result.nodes] == expected
    digests = {json.dumps(each.settings): node.settings for each, node in zip(infos, result.nodes, strict=True)}
    assert len(set(digests.values())) == len(digests)


def test_a_node_shows_by_which_settings_it_runs(api: Api, again: Again) -> None:
    """The new ones after a reload, at once; what all nodes need not have in common does not count."""

    def shown() -> str:
        (node,) = api.call("info")["nodes"]
        assert (node["bus"], node["differs"]) == (1, [])
        settings: str = node["settings"]
        return settings

    first = shown()
    assert len(first) == 8
    again.set(limits={"connections": 1000})
    reloaded(api)
    assert shown() == first
    again.set(limits={"channels": 7})
    reloaded(api)
    eventually(lambda: shown() != first, True)
    again.set()
    reloaded(api)
    eventually(shown, first)
