"""Kill -9 of the gateway while it takes events, 20 times: every event that was acknowledged is there, exactly once.

Clients send again what was not acknowledged, as a publisher's would, so that in the end all are there. By default the
store is SQLite; `BELFRY_STORE_URL` names another.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

EVENTS, KILLS, CLIENTS = 20_000, 20, 4


class _Gateway:
    """`belfry serve` as a process, without a model: it answers with the newest items then."""

    def __init__(self, store: str) -> None:
        self._store = store
        self.url = ""
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", "from pipelines.cli import main; main()", "serve", "--store", self._store]
        command += ["--model-server", "http://127.0.0.1:1", "--model", "none", "--port", "0", "--json"]
        log = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, env=os.environ | {"BELFRY_LOG_REQUESTS": "0"}, **log)
        assert self.process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the gateway did not start")
            text += line
        self.url = str(json.loads(text)["url"])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def run() -> int:
    wrong = 0
    print(
        f"{'round':>5}{'killed after s':>16}{'acknowledged':>14}{'sent again':>12}{'there':>8}{'lost':>6}{'twice':>7}"
    )
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        store = os.environ.get("BELFRY_STORE_URL", str(Path(folder) / "store"))
        gateway = _Gateway(store)
        for number in range(KILLS):
            prefix = f"{os.getpid()}-{number}-"
            clients = [_Client(gateway, f"{prefix}{client}-") for client in range(CLIENTS)]
            for client in clients:
                client.start()
            pause = rng.uniform(0.05, 1.5)
            time.sleep(pause)
            gateway.kill()
            acknowledged = sum(len(client.acknowledged) for client in clients)
            gateway.start()
            for client in clients:
                client.join()
            there = _stored(store, prefix)
            sent = {event for client in clients for event in client.acknowledged}
            lost, twice = len(sent - there.keys()), sum(count > 1 for count in there.values())
            again = sum(client.sent_again for client in clients)
            print(
                f"{number + 1:>5}{pause:>16.2f}{acknowledged:>14,}{again:>12}{len(there):>8,}{lost:>6}{twice:>7}",
                flush=True,
            )
            wrong += lost + twice + (len(there) != EVENTS)
        gateway.kill()
    print("every acknowledged event is there exactly once" if not wrong else f"{wrong} are wrong")
    return int(wrong > 0)


class _Client(threading.Thread):
    """Sends its share of the events in batches, each until it is acknowledged."""

    def __init__(self, gateway: _Gateway, prefix: str) -> None:
        super().__init__(daemon=True)
        self._gateway, self._prefix = gateway, prefix
        self.acknowledged: set[str] = set()
        self.sent_again = 0

    def run(self) -> None:
        rng, number = random.Random(self._prefix), 0
        with httpx.Client(timeout=10) as http:
            while number < EVENTS // CLIENTS:
                count = min(rng.randint(1, 20), EVENTS // CLIENTS - number)
                ids = [f"{self._prefix}{each}" for each in range(number, number + count)]
                events = [
                    {"event_id": each, "user_id": f"u{rng.randrange(500)}", "item_id": "i1", "kind": "click"}
                    for each in ids
                ]
                while not self._acknowledged(http, events):
                    self.sent_again += count
                    time.sleep(0.1)
                self.acknowledged.update(ids)
                number += count

    def _acknowledged(self, http: httpx.Client, events: list[dict[str, str]]) -> bool:
        try:
            return http.post(f"{self._gateway.url}/v1/events", json={"events": events}).status_code == 202
        except httpx.HTTPError:
            return False


def _stored(where: str, prefix: str) -> dict[str, int]:
    """How often each event of a round is in the store."""
    import sqlalchemy as sa

    from serving.events import Store
    from serving.events.tables import EVENTS as TABLE

    query = sa.select(TABLE.c.event_id, sa.func.count()).where(TABLE.c.event_id.like(f"{prefix}%"))
    with Store(where, create=False) as store, store.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(query.group_by(TABLE.c.event_id))}


if __name__ == "__main__":
    sys.exit(run())
