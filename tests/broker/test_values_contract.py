"""What every engine guarantees of the room that latest values take (broker/base.py)."""

import asyncio
import time

from gateway.errors import LIMIT_EXCEEDED, RequestError
from gateway.messages import REMOVED, Channel, HistoryPage, Latest, Publication, PublishOptions, PublishResult
from tests.broker.members import PATIENCE, Engine, Member

DASH = Channel("default", "dash:hall")


async def set_value(member: Member, key: str, data: str, latest: Latest, **tags: str) -> PublishResult | RequestError:
    publication = Publication(DASH, data.encode(), time=int(time.time() * 1000), tags={"key": key, **tags})
    return await member.start_publish(publication, PublishOptions(latest=latest))


async def keys(member: Member, latest: Latest) -> list[str]:
    future: asyncio.Future[HistoryPage | RequestError] = asyncio.get_running_loop().create_future()
    member.broker.values(DASH, latest, future.set_result)
    async with asyncio.timeout(PATIENCE):
        page = await future
    assert isinstance(page, HistoryPage), page
    return sorted((each.tags or {})["key"] for each in page.publications)


def is_refused(outcome: PublishResult | RequestError, setting: str) -> bool:
    return isinstance(outcome, RequestError) and (outcome.error, outcome.setting) == (LIMIT_EXCEEDED, setting)


def test_the_values_of_a_channel_take_no_more_bytes_than_they_may(engine: Engine) -> None:
    """What is replaced or removed makes room; what does not fit changes nothing."""
    latest = Latest("key", keys=10, ttl=60, interval=0.0, size=1_200)

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            assert is_refused(await set_value(member, "a", "1" * 1_200, latest), "latest_size")
            assert is_refused(await set_value(member, "a", "1", latest, note="1" * 1_200), "latest_size")
            assert await keys(member, latest) == []
            for key in "ab":
                assert isinstance(await set_value(member, key, "1" * 300, latest), PublishResult)
            assert is_refused(await set_value(member, "c", "1" * 300, latest), "latest_size")
            assert is_refused(await set_value(member, "a", "1" * 700, latest), "latest_size")
            assert await keys(member, latest) == ["a", "b"]
            # The same again, and again: nothing adds up.
            for _ in range(5):
                assert isinstance(await set_value(member, "a", "1" * 300, latest), PublishResult)
            assert isinstance(await set_value(member, "a", "1", latest), PublishResult)
            assert isinstance(await set_value(member, "c", "1" * 300, latest), PublishResult)
            assert isinstance(await set_value(member, "b", "null", latest, **{REMOVED: "true"}), PublishResult)
            assert isinstance(await set_value(member, "b", "null", latest, **{REMOVED: "true"}), PublishResult)
            assert isinstance(await set_value(member, "d", "1" * 300, latest), PublishResult)
            assert await keys(member, latest) == ["a", "c", "d"]

    asyncio.run(scenario())


def test_values_that_are_forgotten_make_room(engine: Engine) -> None:
    """Also while another one of the channel lives on: keys may come and go for ever."""
    latest = Latest("key", keys=2, ttl=1, interval=0.0)

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await set_value(member, "gone", "1", latest)
            await set_value(member, "alive", "1", latest)
            assert is_refused(await set_value(member, "new", "1", latest), "latest_keys")
            async with asyncio.timeout(PATIENCE):
                while not isinstance(await set_value(member, "new", "1", latest), PublishResult):
                    await set_value(member, "alive", "2", latest)
                    await asyncio.sleep(0.1)
            # Both are new when they are read: a busy machine may take a second for two of these steps.
            for key in ("alive", "new"):
                await set_value(member, key, "2", latest)
            assert await keys(member, latest) == ["alive", "new"]
            async with asyncio.timeout(PATIENCE):
                while "new" in await keys(member, latest):
                    await set_value(member, "alive", "3", latest)
                    await asyncio.sleep(0.1)
            # What a read forgot takes no room either.
            assert isinstance(await set_value(member, "newer", "1", latest), PublishResult)

    asyncio.run(scenario())


def test_values_that_are_forgotten_take_no_bytes(engine: Engine) -> None:
    """Also where removals alone keep the channel known."""
    latest = Latest("key", keys=10, ttl=1, interval=0.0, size=1_000)

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            for key in "abc":
                assert isinstance(await set_value(member, key, "1" * 600, latest), PublishResult)
                async with asyncio.timeout(PATIENCE):
                    while await keys(member, latest):
                        await set_value(member, "none", "null", latest, **{REMOVED: "true"})
                        await asyncio.sleep(0.1)

    asyncio.run(scenario())
