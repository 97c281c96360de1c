"""An ASGI application in a thread: its start, its end, and what keeps it from starting."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serving.http_server import HttpServer
from serving.listening import bind, host_and_port, is_loopback


class App:
    """Says that it is there; with `broken`, it does not start."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.seen: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                self.seen.append(kind)
                await send({"type": f"{kind}.{'failed' if self.broken else 'complete'}"})
                if self.broken or kind == "lifespan.shutdown":
                    return
        self.seen.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("lifespan", [False, True])
def test_it_answers_from_its_start_to_its_end(lifespan: bool) -> None:
    app, listener = App(), bind("127.0.0.1", 0, "The test")
    url = f"http://{host_and_port('127.0.0.1', listener.getsockname()[1])}"
    server = HttpServer(app, listener, 5, lifespan=lifespan)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    server.start()
    assert httpx.get(url).text == "ok"
    server.stop()
    assert app.seen == (["lifespan.startup", "http", "lifespan.shutdown"] if lifespan else ["http"])
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_an_application_that_does_not_start_is_an_error() -> None:
    server = HttpServer(App(broken=True), bind("127.0.0.1", 0, "The test"), 5, lifespan=True)
    with pytest.raises(RuntimeError, match="did not start"):
        server.start()
    server.stop()


def test_a_server_that_never_started_can_be_stopped() -> None:
    listener = bind("127.0.0.1", 0, "The test")
    HttpServer(App(), listener, 5).stop()
    assert listener.fileno() == -1


def test_a_port_in_use_is_named() -> None:
    with bind("127.0.0.1", 0, "REST") as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"^REST cannot listen on 127.0.0.1:{port}: Address already in use.$"):
            bind("127.0.0.1", port, "REST")


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_which_addresses_only_this_machine_reaches(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
    assert not is_loopback("localhost.example")


def test_ipv6_addresses_are_bracketed() -> None:
    assert host_and_port("::1", 80) == "[::1]:80"
