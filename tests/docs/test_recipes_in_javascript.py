"""What recipes do in a page, with the SDK from npm."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.tokens import connection_token
from tests.api.clients import native
from tests.api.site import SECRET, Site, running, settings_of
from tests.cluster.sdk import SDK_FOLDER
from tests.docs.pages import blocks, files
from tests.docs.test_pages import names_of
from tests.test_readme import Running, environment, in_javascript, started

pytestmark = pytest.mark.slow

WHO_IS_HERE, NOTIFICATIONS = (each.code for each in blocks("recipes") if each.language == "js")


def site_of(recipe: str) -> Any:
    return running(settings_of(**names_of(files("recipes")[recipe])["SETTINGS"]))


@contextmanager
def page(site: Site, code: str, room: str = "room:cats") -> Iterator[Running]:
    """The code in a process, as ann."""
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
        it.expect("connected")
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


BODY = b'{"channel": "user:#ann", "data": {"text": "your parcel is there"}}'
