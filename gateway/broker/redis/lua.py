"""The scripts that run inside Redis."""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

from gateway.broker.redis.link import Link, pack


class Script(NamedTuple):
    """Its text, and the name under which Redis knows it once it is loaded."""

    text: str
    sha: str


def _script(*names: str) -> Script:
    """A script made of one or more files, concatenated."""
    folder = files("gateway.broker.redis").joinpath("scripts")
    text = "".join(folder.joinpath(f"{name}.lua").read_text() for name in names)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


PUBLISH_ONCE = _script("first_result", "publish_once")
STREAM_PUBLISH = _script("guard", "epochs", "first_result", "stream_publish")
STREAM_READ = _script("guard", "epochs", "stream_read")
STREAM_COMPARE = _script("guard", "epochs", "stream_compare")
PRESENCE_ENTER = _script("presence_enter")
PRESENCE_LEAVE = _script("presence_leave")
PRESENCE_READ = _script("presence_read")
PRESENCE_GONE = _script("presence_gone")
GENERATION = _script("generation")
LATEST_PUBLISH = _script("guard", "epochs", "first_result", "values", "latest_publish")
LATEST_READ = _script("guard", "epochs", "values", "latest_read")
OCCUPY = _script("events", "occupy")
REVOKE = _script("revoke")
FORGET = _script("forget")
CONTROL = _script("control")
LEDGER_END = _script("events", "ledger_end")
LEDGER_CLAIM = _script("ledger_claim")
SETTINGS = _script("settings")

# What each of the two links has to know.
PUBLISHING = (PUBLISH_ONCE, STREAM_PUBLISH, LATEST_PUBLISH, CONTROL)
READING = (
    STREAM_READ,
    STREAM_COMPARE,
    LATEST_READ,
    PRESENCE_ENTER,
    PRESENCE_LEAVE,
    PRESENCE_READ,
    LEDGER_END,
    LEDGER_CLAIM,
)


def reload(link: Link) -> None:
    """Somebody has made Redis forget its scripts: what is sent from now on finds them."""
    for script in PUBLISHING + READING:
        link.send(pack("SCRIPT", "LOAD", script.text), lambda reply: None)


async def load(link: Link, *scripts: Script) -> None:
    """Make the scripts known. Raises hiredis.ReplyError or a RequestError."""
    for script in scripts:
        await link.ask("SCRIPT", "LOAD", script.text)
