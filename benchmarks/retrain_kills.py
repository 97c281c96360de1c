"""Kill -9 of `belfry retrain`, `registry promote` and `rollback` at random moments, while a model server serves.

Twenty retrainings of a small newsroom are each killed once, at a moment drawn from how long one takes undisturbed, and
started again until they finish; twenty loops of promotion and rollback by the command line's own code are killed
likewise. After every kill the registry opens, what the model server reads is whole, and the champion that it names
exists. All the while `belfry model-server` is asked for the champion without a pause: no request may fail.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.model_server import free_ports, model_server
from pipelines.registry import Registry

KILLS = 20
_MODEL = "news"
_STARTS = 3  # of a retraining that was killed, before it counts as stuck
_CHAMPION_DAYS, _DAYS = 2.0, 4.0
_BELFRY = (sys.executable, "-c", "from pipelines.cli import main; main()")
_LOOP = """
import sys
from pathlib import Path
from pipelines.registry import Registry
registry, name = Registry(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
while True:
    states = registry.model(name).states
    candidates = [version for version, state in states.items() if state == "candidate"]
    if candidates:
        registry.promote(name, candidates[0], "the loop")
    registry.roll_back(name, "the loop")
"""


def run() -> int:
    """Returns 1 unless every kill was survived and every request answered."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # TensorFlow stays in a process that ends.
        subprocess.run([sys.executable, "-m", "benchmarks.retrain_kills", str(folder)], check=True)
        models = folder / "models"
        began = time.monotonic()
        if _retrain(folder, folder / "undisturbed").wait():
            raise RuntimeError("the undisturbed retraining failed")
        seconds = time.monotonic() - began
        expected = _report(folder / "undisturbed")
        told = f"undisturbed: {seconds:.0f} s, accepted: {expected['accepted']}, {expected['gate']['why']}"
        print(told, flush=True)
        rest, rpc = free_ports(2)
        flags = (
            *(f"--model_config_file={models / 'models.config'}", "--model_config_file_poll_wait_seconds=1"),
            "--allow_version_labels_for_unavailable_models",
        )
        with model_server(folder / "log", rest, rpc, *flags), _client(rest, _instance(models)) as client:
            wrong = _kill_retrainings(folder, seconds, expected)
            wrong += _kill_loops(folder)
        print(f"{client.asked:,} requests for the champion, {len(client.failed)} failed")
        for each in client.failed[:5]:
            print(f"failed: {each}")
        for each in wrong:
            print(f"wrong: {each}")
        return int(bool(wrong or client.failed))


def _kill_retrainings(folder: Path, seconds: float, expected: dict[str, Any]) -> list[str]:
    """Returns what was wrong."""
    rng, wrong = random.Random(17), list[str]()
    moments = sorted(rng.uniform(0, seconds) for _ in range(KILLS))
    print(f"{'killed after s':>16}{'in the middle of':>20}{'starts':>8}{'champion':>10}{'result':>14}", flush=True)
    for moment in moments:
        work = folder / f"work-{moment:.2f}"
        process = _retrain(folder, work)
        time.sleep(moment)
        _kill(process)
        where = _where(work)
        champion, faults = _registry_is_whole(folder)
        starts = 1
        while not _finished(work) and starts <= _STARTS:
            if _retrain(folder, work).wait():
                faults.append("a start after the kill failed")
            starts += 1
        same = _finished(work) and _same(_report(work), expected)
        after, more = _registry_is_whole(folder)
        faults += more + ([] if same else ["another result than undisturbed"])
        result = "the same" if same else "DIFFERS"
        print(f"{moment:16.1f}{where:>20}{starts:8}{champion:10}{result:>14}", flush=True)
        wrong += [f"killed after {moment:.1f} s: {fault}" for fault in faults]
        if champion != after:
            wrong.append(f"the champion changed from {champion} to {after}")
    return wrong


def _kill_loops(folder: Path) -> list[str]:
    """Returns what was wrong."""
    models, rng, wrong, changes = folder / "models", random.Random(0), list[str](), 0
    for _ in range(KILLS):
        before = len(_content(models)["models"][_MODEL]["history"])
        process = subprocess.Popen([sys.executable, "-c", _LOOP, str(models), _MODEL], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        wrong += _registry_is_whole(folder)[1]
        changes += len(_content(models)["models"][_MODEL]["history"]) - before
        time.sleep(1.5)  # the server polls every second, and loads what is new
    print(f"{KILLS} loops of promotion and rollback killed, after {changes:,} changes of state")
    return wrong


def _registry_is_whole(folder: Path) -> tuple[int, list[str]]:
    """The champion that a server would read at this moment, and what is wrong."""
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    models = folder / "models"

    def champion() -> int:
        config = text_format.Parse((models / "models.config").read_text(), ModelServerConfig())
        (model,) = config.model_config_list.config
        version = int(model.version_labels["champion"])
        if not (models / _MODEL / str(version) / "saved_model.pb").is_file():
            raise RuntimeError(f"the champion {version} is not there")
        return version

    try:
        found = champion()
        served = Registry(models).model(_MODEL).served
        if served["champion"] != champion():
            return found, ["registry and config differ after the registry was opened"]
    except Exception as error:
        return -1, [repr(error)]
    return found, []


class _Client(threading.Thread):
    """Asks for the champion's feed again and again."""

    def __init__(self, port: int, instance: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._port, self._body, self._stopping = port, json.dumps({"instances": [instance]}), False
        self.asked, self.failed = 0, list[str]()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stopping:
            try:
                connection.request("POST", f"/v1/models/{_MODEL}/labels/champion:predict", self._body)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200 or not json.loads(text)["predictions"][0]["ids"][0]:
                    self.failed.append(f"{answer.status} {text[:200]!r}")
            except Exception as error:
                self.failed.append(repr(error)[:200])
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            self.asked += 1
            time.sleep(0.01)  # two cores train meanwhile

    def stop(self) -> None:
        self._stopping = True
        self.join()


@contextlib.contextmanager
def _client(port: int, instance: dict[str, Any]) -> Iterator[_Client]:
    client = _Client(port, instance)
    client.start()
    try:
        yield client
    finally:
        client.stop()


def _instance(models: Path) -> dict[str, Any]:
    """A request that the first version keeps as golden."""
    golden = json.loads((models / _MODEL / "1" / "assets.extra" / "golden.json").read_text())
    found: dict[str, Any] = golden["requests"][0]
    return found


def _retrain(folder: Path, work: Path) -> subprocess.Popen[bytes]:
    command = [*_BELFRY, "retrain", "--store", str(folder / "store"), "--models", str(folder / "models")]
    command += ["--recipe", str(folder / "recipe.yaml")]
    command += ["--model", _MODEL, "--work", str(work), "--now", (folder / "now").read_text(), "--json"]
    with (folder / f"{work.name}.log").open("ab") as log:
        # A session of its own, so that what it has started is ended with it.
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process itself by signal 9, and then what it had started (the export's servers), as a container would."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _where(work: Path) -> str:
    """How far a killed retraining was."""
    if _finished(work):
        return "its end"
    journal = work / "retrain.json"
    if not journal.exists():
        return "its start"
    content = json.loads(journal.read_text())
    folder = work / "retrainings" / content["id"]
    if content["recent"] is None:
        return "the dataset"
    if content["version"] is not None:
        return "registering"
    if (folder / "run").exists():
        return "the export"
    return "training again" if (folder / "gate.json").exists() else "training"


def _finished(work: Path) -> bool:
    return not (work / "retrain.json").exists() and any(work.glob("retrainings/*/report.json"))


def _report(work: Path) -> dict[str, Any]:
    (path,) = work.glob("retrainings/*/report.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether data, metrics and verdict are those of the undisturbed retraining."""

    def content(report: dict[str, Any]) -> dict[str, Any]:
        return {key: report[key] for key in ("now", "accepted", "champion", "data", "gate", "training")}

    return content(found) == content(expected)


def _content(models: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((models / "registry.json").read_text())
    return found


def write(folder: Path) -> None:
    """A store with some days of a newsroom, and a champion that has hardly learned from the first of them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from pipelines.data.dataset import Dataset, new_dataset, write_info
    from pipelines.data.sources.newsroom import import_newsroom
    from pipelines.recipe import Recipe
    from pipelines.run import Run
    from pipelines.saved_model import export
    from pipelines.store_filling import fill_store
    from pipelines.training import train

    import_newsroom("small", folder / "newsroom", seed=17, name="newsroom")
    whole = Dataset.open(folder / "newsroom")
    assert whole.info.first_at is not None
    events = pq.read_table(whole.events)

    def until(days: float, name: str) -> Dataset:
        part = events.filter(pc.less(events["at"], whole.info.first_at + timedelta(days=days)))
        with new_dataset(folder / name) as draft:
            pq.write_table(part, draft / "events.parquet")
            shutil.copyfile(whole.items, draft / "items.parquet")
            write_info(draft, whole.info.model_copy(update={"events": len(part), "last_at": part["at"][-1].as_py()}))
        return Dataset.open(folder / name)

    recipe = Recipe.model_validate(
        {
            "data": {"split": {"by": "none"}},
            "features": {"text": None, "history": 20, "item_id": False, "tags": True},
            "towers": {"width": 16, "history_encoder": "mean"},
            "training": {"epochs": 1, "learning_rate": 1e-6},
            "export": {"top_k": 10},
            "retraining": {"days": 2.0, "tolerance": 0.05, "slice_users": 10_000},
        }
    )
    train(recipe, until(_CHAMPION_DAYS, "first"), folder / "run")
    models = folder / "models"
    export(Run.open(folder / "run"), models / _MODEL)
    # The champion is that of the slow recipe; what follows learns.
    (folder / "recipe.yaml").write_text(recipe.changed({"training.epochs": 3, "training.learning_rate": 1e-2}).dump())
    there = until(_DAYS, "all")
    assert there.info.last_at is not None
    (folder / "now").write_text(there.info.last_at.isoformat())
    fill_store(there, folder / "store")
    registry = Registry(models)
    registry.add(_MODEL, 1, "first")
    registry.promote(_MODEL, 1, "first")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
