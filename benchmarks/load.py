"""Load for a server, from a process of its own: 16 clients, each of which asks again as soon as it has its answer.

REST is written to be cheap, because the server shares the machine: bytes of requests are made once, answers are only
counted. It is asyncio's protocol on uvloop, about 10 microseconds a request. gRPC is grpcio's client without
(de)serialisation of messages, one channel and 16 threads; it costs about half of what the server does.

    python -m benchmarks.load rest HOST:PORT PATH BODY_FILE SECONDS
    python -m benchmarks.load grpc HOST:PORT METHOD BODY_FILE SECONDS
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
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


class _Client(asyncio.Protocol):
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


def _rest(target: str, path: str, body: bytes, seconds: float) -> tuple[list[tuple[float, float]], list[bytes]]:
    import uvloop

    host, port = target.rsplit(":", 1)
    head = f"POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    times: list[tuple[float, float]] = []
    failed: list[bytes] = []

    async def drive() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CLIENTS):
            await loop.create_connection(lambda: _Client(request, times, failed), host, int(port))
        await asyncio.sleep(_WARM_UP + seconds)

    uvloop.run(drive())
    return times, failed


def _grpc(target: str, method: str, body: bytes, seconds: float) -> tuple[list[tuple[float, float]], list[bytes]]:
    import grpc

    times: list[tuple[float, float]] = []
    failed: list[bytes] = []
    end = time.perf_counter() + _WARM_UP + seconds
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(method)

        def ask() -> None:
            while (asked := time.perf_counter()) < end:
                try:
                    call(body, timeout=20)
                except grpc.RpcError as error:
                    failed.append(str(error).encode())
                now = time.perf_counter()
                times.append((now, now - asked))

        threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return times, failed


def main(kind: str, target: str, path: str, body: str, seconds: str) -> None:
    started = time.perf_counter()
    ask = _rest if kind == "rest" else _grpc
    times, failed = ask(target, path, Path(body).read_bytes(), float(seconds))
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
