"""Load for a server, from a process of its own: 16 clients, each of which asks again as soon as it has its answer.

The server shares the machine, so asking must be cheap: asyncio's protocols on uvloop, one connection a client, bytes of
requests made once, answers only counted; 10 to 20 microseconds a request. gRPC is written as HTTP/2 frames by hand,
because grpcio's own client costs more than half of what the server does. It checks that every answer holds a message
(an error has none), not what the message says.

    python -m benchmarks.load rest HOST:PORT PATH BODY_FILE SECONDS
    python -m benchmarks.load grpc HOST:PORT METHOD BODY_FILE SECONDS
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLIENTS = 16
_WARM_UP = 1.0  # seconds, not counted


@dataclass(frozen=True)
class Load:
    """What the clients saw."""

    per_second: float
    p50: float  # milliseconds
    p99: float
    failed: int


def put_load(kind: str, target: str, path: str, body: Path, seconds: float) -> Load:
    """Run this module as a process and read what it measured."""
    command = [sys.executable, "-m", "benchmarks.load", kind, target, path, str(body), str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return Load(**json.loads(done.stdout))


class _RestClient(asyncio.Protocol):
    def __init__(self, request: bytes, times: list[tuple[float, float]], failed: list[bytes]) -> None:
        self.request, self.times, self.failed = request, times, failed
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.asked = time.perf_counter()
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:") + len(b"content-length:")
        stop = head.find(b"\r", at)
        length = int(head[at : stop if stop > 0 else None])
        if len(self.buffer) < end + 4 + length:
            return
        now = time.perf_counter()
        self.times.append((now, now - self.asked))
        if not head.startswith(b"http/1.1 200"):
            self.failed.append(self.buffer)
        self.buffer = b""
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.failed.append(b"the connection was closed")


class _GrpcClient(asyncio.Protocol):
    _DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7

    def __init__(self, frames: tuple[bytes, bytes], times: list[tuple[float, float]], failed: list[bytes]) -> None:
        self.frames, self.times, self.failed = frames, times, failed
        self.buffer = b""
        self.stream = -1
        self.answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        largest = (1 << 31) - 1
        settings = _frame(self._SETTINGS, 0, 0, struct.pack(">HI", 4, largest))  # the window of each stream
        window = _frame(8, 0, 0, struct.pack(">I", largest - 65535))
        self._write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + window)
        self._ask()

    def _write(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def _ask(self) -> None:
        self.stream += 2
        self.answered = False
        self.asked = time.perf_counter()
        headers, message = self.frames
        self._write(_frame(self._HEADERS, 4, self.stream, headers) + _frame(self._DATA, 1, self.stream, message))

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data
        at = 0
        while len(buffer) - at >= 9:
            size, kind, flags = int.from_bytes(buffer[at : at + 3], "big"), buffer[at + 3], buffer[at + 4]
            if len(buffer) - at < 9 + size:
                break
            payload = buffer[at + 9 : at + 9 + size]
            at += 9 + size
            if kind == self._DATA:
                self.answered = True
            elif kind == self._HEADERS and flags & 1:
                now = time.perf_counter()
                self.times.append((now, now - self.asked))
                if not self.answered:
                    self.failed.append(payload)
                self._ask()
            elif kind in (self._SETTINGS, self._PING) and not flags & 1:
                self._write(_frame(kind, 1, 0, payload if kind == self._PING else b""))
            elif kind == self._GOAWAY:
                self.failed.append(payload)
        self.buffer = buffer[at:]

    def connection_lost(self, error: Exception | None) -> None:
        self.failed.append(b"the connection was closed")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _grpc_frames(target: str, method: str, body: bytes) -> tuple[bytes, bytes]:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": target,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    # Literals that enter no table, so that the same bytes hold for every request.
    block = b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in headers.items()
    )
    return block, b"\0" + struct.pack(">I", len(body)) + body


def _drive(make: Callable[[], asyncio.Protocol], failed: list[bytes], target: str, seconds: float) -> None:
    import uvloop

    host, port = target.rsplit(":", 1)

    async def drive() -> None:
        loop = asyncio.get_running_loop()
        connections = [await loop.create_connection(make, host, int(port)) for _ in range(CLIENTS)]
        await asyncio.sleep(_WARM_UP + seconds)
        failures = list(failed)
        for transport, _ in connections:
            transport.abort()
        await asyncio.sleep(0)
        failed[:] = failures  # without the connections closed here

    uvloop.run(drive())


def main(kind: str, target: str, path: str, body: str, seconds: str) -> None:
    started = time.perf_counter()
    times: list[tuple[float, float]] = []
    failed: list[bytes] = []
    content = Path(body).read_bytes()
    if kind == "rest":
        head = f"POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
        _drive(lambda: _RestClient(request, times, failed), failed, target, float(seconds))
    else:
        frames = _grpc_frames(target, path, content)
        _drive(lambda: _GrpcClient(frames, times, failed), failed, target, float(seconds))
    counted = sorted(took for at, took in times if at >= started + _WARM_UP)
    if failed:
        print(failed[0][:500], file=sys.stderr)
    print(
        json.dumps(
            {
                "per_second": len(counted) / float(seconds),
                "p50": 1e3 * counted[len(counted) // 2],
                "p99": 1e3 * counted[len(counted) * 99 // 100],
                "failed": len(failed),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
