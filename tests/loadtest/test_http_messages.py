"""HTTP as the tool speaks it: requests, and responses however they are cut."""

import pytest

from gateway_loadtest.wires.contract import Request
from gateway_loadtest.wires.http_messages import LONGEST_HEAD, Responses, encoded

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_request_has_a_host_and_the_length_of_its_body() -> None:
    request = Request("POST", "http://127.0.0.1:1/a%20b?c=d", {"Content-Type": "application/json"}, b"{}")
    assert encoded(request) == (
        b"POST /a%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUser-Agent: gateway-loadtest\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert encoded(Request("GET", "http://[::1]:1", {})).startswith(b"GET / HTTP/1.1\r\nHost: [::1]:1\r\n")
    assert encoded(Request("GET", "http://a?b", {})).startswith(b"GET /?b HTTP/1.1\r\nHost: a\r\n")


def test_a_login_in_the_url_is_sent() -> None:
    """Unless the client has a token, whose header is the same; and not as a part of the host."""
    whole = encoded(Request("GET", "http://u:p%40@a:1/", {}))
    assert b"Host: a:1\r\n" in whole
    assert b"Authorization: Basic dTpwQA==\r\n" in whole
    with_token = encoded(Request("GET", "http://u:p@a:1/", {"Authorization": "Bearer t"}))
    assert with_token.count(b"Authorization:") == 1


STREAMS = {
    "chunked": (HEAD + b"3\r\nabc\r\n2;name=value\r\nde\r\nA\r\n\r\n 0123 \r\n\r\n0\r\nTrailer: x\r\n\r\n", True),
    "sized": (b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nabcde\r\n 0123 \r\n", True),
    "until the end": (b"HTTP/1.0 200 OK\r\n\r\nabcde\r\n 0123 \r\n", False),
    "after another status": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"f\r\nabcde\r\n 0123 \r\n\r\n0\r\n\r\n",
        True,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_body_is_the_same_wherever_it_is_cut(name: str) -> None:
    """In two at every place, and byte by byte."""
    stream, is_complete = STREAMS[name]
    cuts = [[stream[:at], stream[at:]] for at in range(len(stream))]
    for pieces in [*cuts, [bytes([each]) for each in stream]]:
        responses = Responses()
        body = b"".join(map(responses.feed, pieces))
        assert (responses.status, body, responses.is_complete) == (200, b"abcde\r\n 0123 \r\n", is_complete)


def test_one_answer_after_the_other() -> None:
    """Each has its status, and says whether another may follow."""
    responses = Responses()
    for _ in range(LONGEST_HEAD // 20):
        responses.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert (responses.status, responses.is_complete, responses.goes_on) == (204, True, True)
    assert responses.feed(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno") == b"no"
    assert (responses.status, responses.is_complete, responses.goes_on) == (404, True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"SSH-2.0-OpenSSH\r\n",
        HEAD + b"xyz\r\n",
        HEAD + b"-1\r\n",
        HEAD + b"3\r\nabcdef\r\n",
        HEAD + b"f" * 40 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_nonsense(data: bytes) -> None:
    with pytest.raises(ValueError, match="no response of HTTP"):
        Responses().feed(data)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1024),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
        (HEAD + b"1;", b"x" * 1024),
        (HEAD + b"0\r\nX: ", b"x" * 1024),
    ],
)
def test_a_head_without_an_end(first: bytes, more: bytes) -> None:
    """Nor a trailer, nor what stands in front of a chunk."""
    responses = Responses()
    responses.feed(first)
    for _ in range((LONGEST_HEAD - len(first)) // len(more)):
        assert not responses.is_complete
        responses.feed(more)
    with pytest.raises(ValueError, match="bytes of HTTP without a body"):
        responses.feed(more)
