"""HTTP as clients really speak it, against the loop with a small application: nothing here needs a model."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.listening import bind
from serving.model_server import http_loop, http_protocol
from serving.model_server.http_loop import HttpLoop
from serving.model_server.http_messages import Request, Response


class Echo:
    """Answers with what it was asked; a path that starts with /slow when the gate opens, in a task."""

    max_body_bytes = 100_000

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.slow = 0
        self.order: list[str] = []

    def now(self, request: Request) -> Response | None:
        if request.path.startswith("/slow"):
            return None
        self.order.append(request.path)
        if request.path == "/large":
            return Response(200, b"x" * 20_000_000)
        return self._echo(request)

    async def later(self, request: Request) -> Response:
        self.slow += 1
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        return self._echo(request)

    def refuse(self, status: int, message: str) -> Response:
        return Response(status, message.encode())

    def _echo(self, request: Request) -> Response:
        return Response(200, f"{request.method} {request.path} ".encode() + request.encoding + request.body)


class Wire:
    """A socket to the loop."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, with_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        line = self.file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = {}
        while (header := self.file.readline()) != b"\r\n":
            name, _, value = header.decode().partition(": ")
            headers[name] = value.strip()
        length = int(headers.get("content-length", 0)) if with_body else 0
        return int(line.split()[1]), headers, self.file.read(length)

    def body(self) -> str:
        status, _, body = self.answer()
        assert status == 200
        return body.decode()

    def closed(self) -> bool:
        return self.file.read(1) == b""

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def often_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for it before `echo`."""
    monkeypatch.setattr(http_loop, "_SWEEP_SECONDS", 0.02)


@pytest.fixture
def echo() -> Iterator[tuple[Echo, Callable[[], Wire], HttpLoop]]:
    application = Echo()
    listener = bind("127.0.0.1", 0, "HTTP")
    loop = HttpLoop(application, listener, 20)
    loop.start()
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(listener.getsockname()[1]))
        return wires[-1]

    yield application, connect, loop
    application.gate.set()
    for wire in wires:
        wire.close()
    loop.stop()


GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % (path, len(body))
    return head + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def test_a_connection_stays_for_the_next_request(echo: Any) -> None:
    wire = echo[1]()
    for number in range(3):
        wire.send(post(b"/a?b=c", b"%d" % number))
        assert wire.body() == f"POST /a {number}"


@pytest.mark.parametrize(
    ("request_text", "connection"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "close"),
        (b"GET / HTTP/1.0\r\n\r\n", "close"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"),
    ],
)
def test_the_client_says_whether_the_connection_stays(request_text: bytes, connection: str, echo: Any) -> None:
    wire = echo[1]()
    wire.send(request_text)
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (200, connection)
    if connection == "close":
        assert wire.closed()
    else:
        wire.send(request_text)
        assert wire.answer()[0] == 200


pieces = st.lists(
    st.tuples(st.sampled_from([b"/", b"/slow", b"/a"]), st.binary(max_size=300), st.booleans()), min_size=1, max_size=25
)


@given(requests=pieces, size=st.integers(1, 4000))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pipelined_requests_are_answered_in_order_however_they_arrive(
    requests: list[tuple[bytes, bytes, bool]], size: int, echo: Any
) -> None:
    application, connect, _ = echo
    application.gate.set()
    text = b""
    for path, body, chunked in requests:
        if chunked and body:
            half = len(body) // 2
            parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
            text += b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (path, parts)
        else:
            text += post(path, body)
    wire = connect()
    sender = threading.Thread(
        target=lambda: [wire.send(text[start : start + size]) for start in range(0, len(text), size)]
    )
    sender.start()
    for path, body, _ in requests:
        status, _, answer = wire.answer()
        assert (status, answer) == (200, b"POST %b %b" % (path, body))
    sender.join()
    wire.close()


def test_a_slow_answer_holds_up_its_own_connection_only(echo: Any, eventually: Callable[..., None]) -> None:
    application, connect, _ = echo
    slow, quick = connect(), connect()
    slow.send(GET % b"/slow" + GET % b"/next")
    eventually(lambda: application.slow)
    quick.send(GET % b"/quick")
    assert quick.body() == "GET /quick "
    application.gate.set()
    assert (slow.body(), slow.body()) == ("GET /slow ", "GET /next ")


def test_a_client_that_goes_away_calls_its_answer_off(echo: Any, eventually: Callable[..., None]) -> None:
    application, connect, loop = echo
    wire = connect()
    wire.send(GET % b"/slow")
    eventually(lambda: application.slow)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a half-close
    wire.close()
    eventually(lambda: not loop._connections)


def test_a_half_closed_client_gets_its_answers(echo: Any) -> None:
    application, connect, _ = echo
    application.gate.set()
    wire = connect()
    wire.send(GET % b"/slow" + GET % b"/quick")
    wire.socket.shutdown(socket.SHUT_WR)
    assert (wire.body(), wire.body()) == ("GET /slow ", "GET /quick ")
    assert wire.closed()


def test_a_client_that_ends_within_a_request_is_let_go(echo: Any) -> None:
    wire = echo[1]()
    wire.send(post(b"/", b"0123456789")[:-3])
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.closed()


def test_head_has_no_body_and_its_length(echo: Any) -> None:
    wire = echo[1]()
    wire.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET % b"/b")
    assert wire.answer(with_body=False)[1]["content-length"] == "8"
    assert wire.body() == "GET /b "


def test_expect_continue_is_told_to_go_on_or_refused(echo: Any) -> None:
    wire = echo[1]()
    whole = post(b"/", b"12345", b"Expect: 100-continue")
    wire.send(whole[:-5])
    assert wire.file.readline() + wire.file.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(whole[-5:])
    assert wire.body() == "POST / 12345"
    wire.send(b"POST / HTTP/1.1\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n")
    assert wire.answer()[0] == 413


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_a_wish_to_upgrade_is_answered_as_if_there_were_none(upgrade: bytes, echo: Any) -> None:
    wire = echo[1]()
    wire.send(post(b"/a", b"body", b"Connection: Upgrade", b"Upgrade: " + upgrade) + GET % b"/b")
    assert (wire.body(), wire.body()) == ("POST /a body", "GET /b ")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nContent-Length:\r\n 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\nContent-Length: 3\n\nabc", 400),
        (b"POST / HTTP/1.1\r\nX: a\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 100001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n186a1\r\n" + b"x" * 100_001, 413),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * (1 << 17) + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * (1 << 20), 431),
        (b"GET / HTTP/1.1\r\n" + b"A: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 4000, 431),
    ],
)
def test_what_is_no_request_is_refused_after_what_came_before(text: bytes, status: int, echo: Any) -> None:
    wire = echo[1]()
    wire.send(GET % b"/first")
    assert wire.body() == "GET /first "
    sender = threading.Thread(target=lambda: wire.send(GET % b"/second" + text))
    sender.start()
    assert wire.body() == "GET /second "
    answer = wire.answer()
    assert (answer[0], answer[1]["connection"]) == (status, "close")
    assert wire.closed()
    sender.join()


@pytest.mark.parametrize("part", [b"", b"\r\n", b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_client_that_takes_too_long_is_let_go(
    part: bytes, often_swept: None, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "IDLE_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(http_protocol, name, 0.05)
    wire = echo[1]()
    wire.send(part)
    if part.strip():
        assert wire.answer()[0] == 408
    assert wire.closed()


def test_a_client_that_never_reads_is_let_go(
    often_swept: None, echo: Any, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 0.05)
    wire = echo[1]()
    wire.send(GET % b"/large" + GET % b"/large")
    eventually(lambda: echo[2]._connections)
    eventually(lambda: not echo[2]._connections)


def test_a_large_last_answer_is_sent_whole_to_a_client_that_reads_slowly(
    often_swept: None, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LINGER_SECONDS", 0.05), ("IDLE_SECONDS", 0.4)):
        monkeypatch.setattr(http_protocol, name, seconds)
    wire = echo[1]()
    wire.send(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
    received, pause = 0, threading.Event()
    while chunk := wire.socket.recv(1 << 20):
        received += len(chunk)
        pause.wait(0.04)
    assert received > 20_000_000


def test_a_client_that_sends_many_requests_at_once_lets_others_between(
    echo: Any, eventually: Callable[..., None]
) -> None:
    application, connect, _ = echo
    application.gate.set()
    greedy, other = connect(), connect()
    greedy.send(GET % b"/a")
    other.send(GET % b"/b")
    assert greedy.body() + other.body() == "GET /a GET /b "

    def answer_both(request: Request) -> Response | None:
        # The first of many: what the other client sends now is there before the second is answered.
        if request.path == "/first":
            other.send(GET % b"/other")
        return Echo.now(application, request)

    application.now = answer_both
    greedy.send(GET % b"/first" + (GET % b"/many") * 500)
    assert other.body() == "GET /other "
    assert [greedy.answer()[0] for _ in range(501)] == [200] * 501
    assert application.order.index("/other") < 100


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_wish_to_upgrade_and_close_is_answered_and_closed(version: bytes, echo: Any) -> None:
    wire = echo[1]()
    wire.send(b"GET /a HTTP/%b\r\nConnection: close, upgrade\r\nUpgrade: h2c\r\n\r\n" % version)
    assert wire.body() == "GET /a "
    assert wire.closed()


def test_a_trailer_changes_nothing(echo: Any) -> None:
    wire = echo[1]()
    chunked = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n%b\r\n"
    wire.send(chunked % b"Content-Encoding: gzip\r\n" + GET % b"/b")
    assert (wire.body(), wire.body()) == ("POST /a abc", "GET /b ")
    wire.send(chunked % (b"A: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 4000))
    assert wire.answer()[0] == 431


def test_a_pipelined_expect_is_told_to_go_on_in_its_turn(echo: Any, eventually: Callable[..., None]) -> None:
    application, connect, _ = echo
    wire = connect()
    whole = post(b"/b", b"12345", b"Expect: 100-continue")
    wire.send(GET % b"/slow" + whole[:-5])
    eventually(lambda: application.slow)
    application.gate.set()
    assert wire.body() == "GET /slow "
    assert wire.file.readline() + wire.file.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(whole[-5:])
    assert wire.body() == "POST /b 12345"


def test_no_more_connections_than_allowed(echo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "MAX_CONNECTIONS", 1)
    first, second = echo[1](), echo[1]()
    first.send(GET % b"/a")
    assert first.body() == "GET /a "
    with contextlib.suppress(ConnectionError):  # a reset is an end as well
        assert second.closed()


def test_stopping_lets_requests_finish_and_closes_the_rest(echo: Any, eventually: Callable[..., None]) -> None:
    application, connect, loop = echo
    idle, slow, half = connect(), connect(), connect()
    idle.send(GET % b"/a")
    assert idle.body() == "GET /a "
    slow.send(GET % b"/slow")
    text = post(b"/half", b"12345")
    half.send(text[:-2])
    eventually(lambda: application.slow and len(loop._connections) == 3)
    stopping = threading.Thread(target=loop.stop)
    stopping.start()
    assert idle.closed()
    half.send(text[-2:])
    assert half.body() == "POST /half 12345"
    application.gate.set()
    status, headers, body = slow.answer()
    assert (status, headers["connection"], body) == (200, "close", b"GET /slow ")
    slow.close()
    half.close()
    stopping.join(20)
    assert not stopping.is_alive()
