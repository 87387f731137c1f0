"""Who may call the API."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from gateway.api import access
from gateway.config.settings import ServerSettings
from tests.api.clients import PATIENCE
from tests.api.conftest import Api
from tests.api.site import KEY, Site, running, settings_of

PUBLISH = {"channel": "news", "data": 1}


def status(api: Api, **headers: str) -> int:
    """Of a publish with these headers, without the client's own."""
    request = httpx.Request("POST", api.http.base_url.join("/api/publish"), json=PUBLISH, headers=headers)
    response = api.http.send(request)
    api.checked("publish", request.read(), response)
    return response.status_code


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a wrong key waits for its answer; not in tests of something else."""
    monkeypatch.setattr(access, "REFUSAL_DELAY", 0.0)


def test_wrong_keys_wait_for_their_answer_and_right_ones_do_not(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at most; those beyond are told so, and their connection ends. A right key is answered at any time."""
    monkeypatch.setattr(access, "REFUSAL_DELAY", 3600.0)
    monkeypatch.setattr(access, "MOST_DELAYED", 3)
    url = f"http://{site.public}/api/publish"

    async def guess(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(url, json=PUBLISH, headers={"X-API-Key": "wrong" * 8})

    async def scenario() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            waiting = [asyncio.create_task(guess(client)) for _ in range(3)]
            before = site.errors("unauthorized")
            async with asyncio.timeout(PATIENCE):
                while site.errors("unauthorized") - before < 3:
                    await asyncio.sleep(0.01)
            beyond = await guess(client)
            assert beyond.status_code == 429
            assert beyond.headers["connection"] == "close"
            right = await client.post(url, json=PUBLISH, headers={"X-API-Key": KEY})
            assert right.status_code == 200
            assert not any(each.done() for each in waiting)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Two keys, one of them not ASCII."""
    with running(settings_of(api={"keys": [KEY, "schlüssel"]})) as node:
        yield node


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": KEY.upper()},
        {"Authorization": KEY},
        {"Authorization": "apikey"},
        {"Authorization": "apikey wrong"},
        {"Authorization": f"Bearer {KEY}"},
        {"Cookie": f"X-API-Key={KEY}"},
    ],
)
def test_without_a_key_nothing_happens(site: Site, api: Api, headers: dict[str, str]) -> None:
    """401 whatever the error mode, with a text that names header and setting; counted."""
    before = site.errors("unauthorized")
    assert status(api, **headers) == 401
    assert site.errors("unauthorized") == before + 1
    answer = httpx.post(f"http://{site.public}/api/publish", json=PUBLISH, headers=headers, trust_env=False).json()
    assert answer["error"]["code"] == 401
    assert "X-API-Key: KEY, or Authorization: apikey KEY" in answer["error"]["message"]
    assert "api.keys" in answer["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"x-api-key": "schlüssel".encode()},
        {"Authorization": f"apikey {KEY}"},
        {"Authorization": f"APIKEY {KEY}"},
        {"X-API-Key": KEY, "Origin": "https://example.com"},
        {"Authorization": "Bearer of something for a proxy", "X-API-Key": KEY},
    ],
)
def test_any_of_the_keys_opens(api: Api, headers: dict[str, str]) -> None:
    """In either header, and from a browser too: whoever has the key may."""
    assert status(api, **headers) == 200


def test_the_key_is_not_taken_from_the_query(site: Site) -> None:
    """It would be in the logs of every proxy."""
    url = f"http://{site.public}/api/publish"
    assert httpx.post(url, params={"api_key": KEY}, json=PUBLISH, trust_env=False).status_code == 401


def test_a_large_body_without_a_key_is_not_read_into_memory(site: Site, api: Api) -> None:
    """It is answered at once, and the connection goes on."""
    for _ in range(2):
        response = httpx.post(f"http://{site.public}/api/publish", content=b"x" * 3_000_000, trust_env=False)
        assert response.status_code == 401
    response = api.http.post("/api/publish", content=b"x" * 3_000_000, headers={"X-API-Key": "wrong"})
    assert response.status_code == 401
    assert status(api, **{"X-API-Key": KEY}) == 200


def test_no_browser_gets_permission(api: Api) -> None:
    """There is no CORS: a preflight is answered without a word about origins."""
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    response = api.http.options("/api/publish", headers=headers)
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_only_post_is_served(site: Site, api: Api, method: str) -> None:
    """405, with or without a key."""
    before = site.errors("405")
    response = api.http.request(method, "/api/info")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert site.errors("405") == before + 1


def test_without_keys_everything_is_refused() -> None:
    """Secure by default."""
    with running(settings_of(api={})) as node, Api(node, key="") as api, Api(node, internal=True) as internal:
        assert status(api) == 401
        assert status(api, **{"X-API-Key": ""}) == 401
        assert status(internal) == 401


@pytest.mark.parametrize("settings", [settings_of(api={"insecure": True}), settings_of(api={}, no_auth=True)])
def test_insecure_lets_everybody_in_but_browsers(settings: ServerSettings) -> None:
    """A page on the web can reach a developer's loopback, and sends an Origin with every POST."""
    with running(settings) as node, Api(node) as api, Api(node, internal=True) as internal:
        for each in (api, internal):
            assert status(each) == 200
            assert status(each, **{"X-API-Key": "whatever"}) == 200
            for origin in ("https://example.com", f"http://{node.public}", "null", ""):
                assert status(each, Origin=origin) == 401


def test_the_log_says_who_is_refused_and_why(caplog: pytest.LogCaptureFixture) -> None:
    """A page, and a backend without a key; who repeats it is counted. Behind a proxy, it is the client's address."""
    settings = settings_of(api={"insecure": True, "public": True}, trusted_proxies=["127.0.0.1"])
    with running(settings) as node, Api(node) as api, Api(node, internal=True) as internal:
        for each in (api, internal):
            assert status(each, Origin="https://example.com", **{"X-Forwarded-For": "203.0.113.7"}) == 401
        assert status(api, Origin="https://example.com", **{"X-Forwarded-For": "203.0.113.8"}) == 401
    with running(settings_of()) as node, Api(node, key="") as api:
        assert status(api) == 401
    lines = [vars(each) for each in caplog.records if each.name == access.__name__]
    assert [(each["message"], each["reason"], each.get("origin"), each["address"]) for each in lines] == [
        ("API request refused", access.BROWSER, "https://example.com", "203.0.113.7"),
        ("API request refused", access.BROWSER, "https://example.com", "203.0.113.8"),
        ("API request refused", access.WRONG_KEY, None, "127.0.0.1"),
    ]
    assert lines[1]["suppressed"] == 1


def test_with_keys_insecure_still_means_insecure_but_for_browsers() -> None:
    """The key then is for them only; `no_auth` does not undo what is said in so many words."""
    with running(settings_of(api={"insecure": True, "keys": [KEY]}, no_auth=True)) as node, Api(node) as api:
        assert status(api) == 200
        assert status(api, Origin="https://example.com") == 401
        assert status(api, Origin="https://example.com", **{"X-API-Key": KEY}) == 200
