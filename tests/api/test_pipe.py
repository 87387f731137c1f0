"""`POST /api`: commands that name their method, as older clients send them. Such clients: tests/cluster."""

import json
from typing import Any

import httpx
import pytest

from tests.api.clients import settled
from tests.api.conftest import TRANSPORT, Api
from tests.api.site import KEY, Site, running, settings_of


def line(method: str, **params: Any) -> str:
    return json.dumps({"method": method, "params": params})


def post(api: Api, body: str | bytes, **headers: str) -> httpx.Response:
    return api.http.post("/api", content=body.encode() if isinstance(body, str) else body, headers=headers)


def replies(api: Api, body: str | bytes) -> list[dict[str, Any]]:
    """One for each command, each a line."""
    response = post(api, body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return [json.loads(each) for each in response.text.split("\n")]


def test_a_command_is_answered_like_its_method(site: Site, api: Api) -> None:
    """Result and errors are the same as those of `POST /api/{method}`, and are counted under the same names."""
    before = site.metric("gateway_api_requests_total", method="publish"), site.errors("102")
    with settled(site, "news") as client:
        assert replies(api, line("publish", channel="news", data={"a": 1})) == [{"result": {}}]
        assert client.recv(10) == '{"a": 1}'
    (refused,) = replies(api, line("publish", channel="nowhere:a", data=1))
    assert refused == api.post("publish", {"channel": "nowhere:a", "data": 1})
    after = site.metric("gateway_api_requests_total", method="publish"), site.errors("102")
    assert after == (before[0] + 3, before[1] + 2)


def test_lines_are_carried_out_in_their_order(site: Site, api: Api) -> None:
    """Each has a line of the answer in its place, whatever happens to the others, and its id if it has one."""
    lines = [
        line("publish", channel="news", data=1),
        line("publish", channel="two words", data=1),
        line("rpc", data=1),
        line("nothing"),
        line("batch", commands=[]),
        '{"params": {}}',
        '{"method": 7}',
        '{"id": 18446744073709551616, "method": "info"}',
        '{"id": -1, "method": "info"}',
        "[]",
        "null",
        '{"id": 7, "method": "publish", "params": {"channel": "news", "data": 2}}',
        '{"id": 8, "method": "publish", "params": {"channel": 5}}',
        '{"id": 9, "method": "publish", "parameters": {}}',
        line("broadcast", channels=["news", ""], data=3),
        '{"method": "channels", "params": null}',
        '{"method": "info"}',
    ]
    before = site.errors("107")
    with settled(site, "news") as client:
        for ending in ("", "\n", "\n\n"):
            answers = replies(api, "\n".join(lines) + ending)
            codes = [answer.get("error", {}).get("code") for answer in answers]
            assert codes == [None, 107, 108, 104, 104, *[107] * 6, None, 107, 107, None, None, None]
            assert [answer["id"] for answer in answers if "id" in answer] == [7, 8, 9]
            assert [client.recv(10) for _ in range(3)] == ["1", "2", "3"]
        assert [list(each) for each in answers[14]["result"]["responses"]] == [["result"], ["error"]]
        assert answers[15]["result"]["channels"] == {"news": {"num_clients": 1}}
    assert site.errors("107") == before + 3 * 10


def test_a_single_command_may_have_line_breaks(site: Site, api: Api) -> None:
    """People write it so with curl."""
    body = json.dumps({"method": "publish", "params": {"channel": "news", "data": [1]}}, indent=2)
    assert replies(api, body) == [{"result": {}}]


def test_many_publishes_keep_their_order(site: Site, api: Api) -> None:
    """As in a batch."""
    with settled(site, "a") as client:
        body = "\n".join(line("publish", channel="a", data=number) for number in range(1_000))
        assert replies(api, body) == [{"result": {}}] * 1_000
        assert [client.recv(10) for _ in range(1_000)] == [str(number) for number in range(1_000)]


FIRST = line("publish", channel="whole", data=1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b" \n\r\n ",
        b"{",
        FIRST + FIRST,
        FIRST + " " + FIRST,
        FIRST + "\n{",
        FIRST.encode() + b'\n"\xff"',
        FIRST + "\n" + "[" * 100_000,
    ],
    ids=lambda body: repr(body[:90]),
)
def test_what_is_no_json_is_refused_as_a_whole(site: Site, api: Api, body: str | bytes) -> None:
    """With a status, since one answer to several commands is malformed for these clients; nothing is carried out."""
    before = site.errors("107")
    with settled(site, "whole") as client:
        response = post(api, body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, 107)
        response = post(api, body, **TRANSPORT)
        assert (response.status_code, response.json()["code"]) == (400, 107)
        client.send("end")
        assert client.recv(10) == "end"
    assert site.errors("107") == before + 2


def test_the_same_limits_hold(site: Site) -> None:
    """api.max_batch for commands, and for the channels of their broadcasts; api.max_body; keys; POST only."""
    with running(settings_of(api={"keys": [KEY], "max_batch": 3, "max_body": 1_000})) as small, Api(small) as api:
        publish = line("publish", channel="news", data=1)
        assert len(replies(api, "\n".join([publish] * 3))) == 3
        response = post(api, "\n".join([publish] * 4))
        assert response.status_code == 400
        assert "api.max_batch" in response.json()["error"]["message"]
        assert len(replies(api, "\n \n".join([publish] * 3) + "\n" * 9)) == 3
        both = "\n".join([line("broadcast", channels=["a"] * 2, data=1)] * 2)
        assert [list(reply) for reply in replies(api, both)] == [["result"], ["error"]]
        assert post(api, "x" * 1_001).status_code == 413
        assert api.http.get("/api").status_code == 405
    with Api(site, key="wrong") as stranger:
        assert post(stranger, FIRST).status_code == 401


def test_errors_of_commands_have_no_status(api: Api) -> None:
    """Not in the error mode either: there may be several."""
    response = post(api, line("publish", channel="nowhere:a", data=1), **TRANSPORT)
    assert response.status_code == 200
    assert response.json()["error"]["code"] == 102
