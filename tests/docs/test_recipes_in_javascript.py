"""What recipes do in a page, with the SDK from npm."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.in_process import NodeMethods
from gateway.tokens import connection_token
from tests.api.clients import native
from tests.api.site import OPEN, SECRET, Site, running, settings_of
from tests.cluster.sdk import SDK_FOLDER
from tests.docs.pages import blocks, files
from tests.docs.test_pages import names_of
from tests.test_readme import Running, environment, in_javascript, started

pytestmark = pytest.mark.slow

LAST_LINES, WHO_IS_HERE, NOTIFICATIONS = (each.code for each in blocks("recipes") if each.language == "js")


def site_of(recipe: str) -> Any:
    return running(settings_of(**names_of(files("recipes")[recipe])["SETTINGS"]))


@contextmanager
def page(site: Site, code: str, room: str = "room:cats", until: str = "connected") -> Iterator[Running]:
    """The code in a process, as ann, which has written the line `until`."""
    before = f"""
        import {{ Centrifuge }} from "centrifuge";
        const client = new Centrifuge("ws://{site.public}/connection/websocket",
            {{ token: "{connection_token(SECRET, "ann")}", websocket: globalThis.WebSocket }});
        const room = client.newSubscription("{room}");
        const say = (word) => (text) => console.log(`${{word}} ${{text}}`);
        const [add, remove, notify] = [say("here"), say("gone"), say("told")];
        client.on("connected", () => console.log("connected"));
    """
    command = in_javascript(f"{before}{code}\nroom.subscribe(); client.connect();")
    with started(command, environment(), SDK_FOLDER) as it:
        it.expect(until)
        yield it


def test_who_is_here() -> None:
    """Those who were there before, and those who come later."""
    with site_of("who_is_here.py") as site, native(site, "bob") as bob:
        bob.subscribe("room:cats")
        with page(site, WHO_IS_HERE) as ann:
            ann.expect("here bob")
            with native(site, "eve") as eve:
                eve.subscribe("room:cats")
                ann.expect("here eve")


def test_notifications() -> None:
    with site_of("notifications.py") as site, page(site, NOTIFICATIONS, room="user:none") as ann:
        site.run(site.gateway.methods.call("publish", site.gateway.methods.decode("publish", BODY)))
        ann.expect("told your parcel is there")


def test_the_last_lines() -> None:
    """From the database, then from the channel; whoever may not have them gives up after one question."""
    stored = """{ id: 1, text: "stored" }"""
    fetched = f"""
        const show = ({{ text }}) => console.log(`line ${{text}}`);
        const gone = (reason) => console.log(`gone ${{reason}}`);
        const fetch = async () => (STATUS === 200
            ? {{ ok: true, status: 200, json: async () => ({{ position: POSITION, lines: [{stored}] }}) }}
            : {{ ok: false, status: STATUS }});
    """
    settings = settings_of(namespaces={"room": {**OPEN, "delivery": "recoverable"}})
    with running(settings) as site:
        top = site.run(NodeMethods(site.gateway).history("room:cats"))
        site.run(NodeMethods(site.gateway).publish("room:cats", {"id": 2, "text": "published meanwhile"}))
        position = json.dumps({"offset": top.offset, "epoch": top.epoch})
        allowed = f"const [STATUS, POSITION] = [200, {position}];{fetched}{LAST_LINES}"
        with page(site, allowed, room="room:none", until="line stored") as ann:
            ann.expect("line published meanwhile")
        refused = f"const [STATUS, POSITION] = [403, null];{fetched}{LAST_LINES}"
        with page(site, refused, room="room:none", until="gone unsubscribe called"):
            pass


BODY = b'{"channel": "user:#ann", "data": {"text": "your parcel is there"}}'
