"""The scripts that run inside Redis."""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

from gateway.broker.redis.link import Link


class Script(NamedTuple):
    """Its text, and the name under which Redis knows it once it is loaded."""

    text: str
    sha: str


def _script(name: str) -> Script:
    text = files("gateway.broker.redis").joinpath("scripts", f"{name}.lua").read_text()
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


PUBLISH_ONCE = _script("publish_once")
STREAM_PUBLISH = _script("stream_publish")
STREAM_READ = _script("stream_read")
OCCUPY = _script("occupy")


async def load(link: Link, *scripts: Script) -> None:
    """Make the scripts known. Raises hiredis.ReplyError or a RequestError."""
    for script in scripts:
        await link.ask("SCRIPT", "LOAD", script.text)
