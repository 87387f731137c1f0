"""Servers that do not keep what they say, each in its way: none of them passes."""

import asyncio
from pathlib import Path

import pytest
from picows import WSMsgType

from gateway_loadtest.wires.contract import LARGEST
from tests.loadtest.liar import LATE, Client, Site, serving
from tests.loadtest.tool import Outcome, run

pytestmark = [pytest.mark.slow, pytest.mark.traced]

# Two channels of three: 2 x 20 publications, 120 deliveries.
CHANNELS, MEMBERS, PUBLISHED, EXPECTED = 2, 3, 40, 120
ROOMS = (
    "rooms",
    "--channels",
    "2",
    "--members",
    "3",
    "--rate",
    "10",
    "--seconds",
    "2",
    "--grace",
    "1",
    "--workers",
    "1",
)


def against(site: Site, folder: Path, *arguments: str) -> Outcome:
    with serving(site) as url:
        outcome = run(folder, *(arguments or ROOMS), "--target", url)
    assert "Traceback" not in outcome.output
    assert outcome.result is not None, outcome.output
    return outcome


def test_an_honest_one_passes(tmp_path: Path) -> None:
    """Or the others prove nothing. It may also say what nobody asked for."""

    class Talkative(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            super().publish(client, number, channel, data)
            for each in self.subscribers[channel]:
                each.end("somebody:else")
                each.push("somebody:else", "hello")

    outcome = against(Talkative(), tmp_path)
    # On a busy machine the generator may say that it was the bottleneck; it counts all the same.
    assert outcome.result is not None
    assert outcome.result.outcome in ("passed", "invalid"), outcome.output
    assert (outcome.result.totals.received, outcome.result.totals.misrouted) == (EXPECTED, 0)


def test_one_that_answers_no_publication(tmp_path: Path) -> None:
    class Silent(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            """Neither delivered nor answered, while the connection stands."""

    outcome = against(Silent(), tmp_path)
    assert outcome.status == 1
    assert "0 refused or not sent, 0 unknown since the connection broke, 40 never answered" in outcome.output


def test_one_that_refuses(tmp_path: Path) -> None:
    """Every third; more than none is more than is allowed, unless it was allowed."""

    class Refusing(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            if number % 3:
                super().publish(client, number, channel, data)
            else:
                client.refuse(number, f"\x1b[2Jtrace {number}")

    outcome = against(Refusing(), tmp_path)
    assert outcome.status == 1
    assert "did not accept everything" in outcome.output
    # What a server says is not obeyed by the terminal.
    assert "\x1b[2J" not in outcome.output
    assert "\\x1b[2Jtrace" in outcome.output
    assert against(Refusing(), tmp_path, *ROOMS, "--max-refused", "20").status in (0, 3)


def test_one_that_refuses_everything(tmp_path: Path) -> None:
    """Then nothing is expected, and nothing is lost; however many were allowed."""

    class Closed(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            client.refuse(number)

    assert against(Closed(), tmp_path, *ROOMS, "--max-refused", "1000").status == 1


def test_what_one_subscriber_has_was_accepted(tmp_path: Path) -> None:
    """Whatever was answered: the others have to have it too."""

    class Unfair(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            self.subscribers[channel][0].push(channel, data)
            client.refuse(number)

    outcome = against(Unfair(), tmp_path)
    assert outcome.status == 1
    assert outcome.result is not None
    assert (outcome.result.totals.expected, outcome.result.totals.lost) == (EXPECTED, EXPECTED * 2 // 3)


class Deaf(Site):
    """Delivers nothing more to whoever comes back."""

    def publish(self, client: Client, number: int, channel: str, data: str) -> None:
        if self.subscribed[channel] <= MEMBERS:
            self.deliver(channel, data)
        client.say({"id": number, "publish": {}})


def test_one_that_is_deaf_to_those_who_came_back(tmp_path: Path) -> None:
    """What was due after the new subscription was announced by nobody as missed."""
    storm = ("storm", "--channels", "2", "--members", "3", "--rate", "10", "--seconds", "2", "--grace", "1")
    outcome = against(Deaf(), tmp_path, *storm, "--drop", "1", "--workers", "2")
    assert outcome.status == 1
    assert outcome.result is not None
    totals = outcome.result.totals
    # Twelve seconds at 20 a second to three each; lost are the last five and some of the two before.
    assert totals.cut == 6
    assert totals.lost >= 5 * 60
    assert totals.lost + totals.missed_and_told + totals.received == totals.expected == 12 * 60


def test_an_excuse_at_the_end_is_none(tmp_path: Path) -> None:
    """A subscription that ends with the last publication does not explain why the others never came."""

    class Excusing(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            self.numbers[channel] = self.numbers.get(channel, 0) + 1
            client.say({"id": number, "publish": {}})
            if self.numbers[channel] == PUBLISHED // CHANNELS:
                for each in self.subscribers[channel]:
                    each.end(channel)

    outcome = against(Excusing(), tmp_path)
    assert outcome.status == 1
    assert outcome.result is not None
    assert outcome.result.totals.received == 0
    assert outcome.result.totals.lost >= EXPECTED // 3


def test_one_that_confuses_channels(tmp_path: Path) -> None:
    """Messages for somebody else, and messages under another name."""

    class Leaking(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            for other in self.subscribers:
                self.deliver(other, data)
            client.say({"id": number, "publish": {}})

    class Renaming(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            self.deliver(channel, data, name="somebody:else")
            client.say({"id": number, "publish": {}})

    for site in (Leaking(), Renaming()):
        outcome = against(site, tmp_path)
        assert outcome.status == 1
        assert outcome.result is not None
        assert outcome.result.totals.misrouted == EXPECTED


def test_one_that_cuts_messages_short(tmp_path: Path) -> None:
    class Cutting(Site):
        # Where a character is left out.
        at = 0

        def deliver(self, channel: str, data: str, name: str = "") -> None:
            super().deliver(channel, data[: self.at] + data[self.at :][1:], name)

    for at in (60, -1):
        site = Cutting()
        site.at = at
        outcome = against(site, tmp_path)
        assert outcome.status == 1
        assert outcome.result is not None
        assert outcome.result.totals.lost == EXPECTED


def test_one_that_doubles_late(tmp_path: Path) -> None:
    """After all that was expected has come."""

    class Doubling(Site):
        def publish(self, client: Client, number: int, channel: str, data: str) -> None:
            super().publish(client, number, channel, data)
            asyncio.get_running_loop().call_later(LATE, self.deliver, channel, data)

    outcome = against(Doubling(), tmp_path)
    assert outcome.status == 1
    assert outcome.result is not None
    assert outcome.result.totals.duplicated == EXPECTED


def test_one_that_throws_out(tmp_path: Path) -> None:
    """For good: those that should have stayed do not stand at the end."""

    class Throwing(Site):
        def opened(self, client: Client) -> None:
            asyncio.get_running_loop().call_later(2, client.close, 4500)

    outcome = against(Throwing(), tmp_path, "idle", "--connections", "6", "--seconds", "2", "--grace", "1")
    assert outcome.status == 4
    assert "0 of 6 clients stood at the end" in outcome.output
    assert "gave up: closed with 4500" in outcome.output


def test_one_that_never_ends_a_message(tmp_path: Path) -> None:
    """It would fill the memory of the generator."""
    piece = b"x" * 2**20

    class Endless(Site):
        def opened(self, client: Client) -> None:
            client.transport.send(WSMsgType.TEXT, piece, fin=False)
            for _ in range(LARGEST // len(piece)):
                client.transport.send(WSMsgType.CONTINUATION, piece, fin=False)

    outcome = against(Endless(), tmp_path, "idle", "--connections", "1", "--seconds", "3", "--grace", "1")
    assert outcome.status == 4
    assert f"gave up: a message of more than {LARGEST} bytes" in outcome.output


def test_one_of_two_targets_is_not_there(tmp_path: Path) -> None:
    """Its clients do not go elsewhere: the pairs would be those of another node."""
    with serving(Site()) as url:
        outcome = run(tmp_path, *ROOMS, "--target", url, "--target", "ws://127.0.0.1:1", "--connect-timeout", "5")
    assert outcome.status == 4
    assert "Connection refused" in outcome.output


def test_it_is_published_for_as_long_as_commands_run(tmp_path: Path) -> None:
    """Or the last restarts would meet no traffic."""
    rolling = ("rolling", "--channels", "1", "--members", "1", "--rate", "20", "--seconds", "1", "--command", "sleep 4")
    outcome = against(Site(), tmp_path, *rolling)
    assert outcome.result is not None
    assert outcome.result.outcome in ("passed", "invalid"), outcome.output
    # Five calm seconds before and after.
    assert outcome.result.totals.received >= (5 + 4 + 5) * 20


def test_what_was_to_happen_did_not(tmp_path: Path) -> None:
    """A command that fails is no rolling restart."""
    rolling = ("rolling", "--channels", "1", "--members", "1", "--seconds", "1", "--command", "exit 3")
    outcome = against(Site(), tmp_path, *rolling)
    assert outcome.status == 3
    assert "the command ended with status 3: exit 3" in outcome.output
