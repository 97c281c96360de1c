"""A process that runs trials, so that one that crashes, hangs or eats the memory is a failed trial and no more.

It reads a task a line from standard input and writes what came of it, a line each, to standard output. It ends when
standard input does, in the middle of a trial too: so it does not outlive who started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from pipelines.data.engine import choose_engine
from pipelines.errors import BadInput, Stopped
from pipelines.tuning.trial import Task


class Worker:
    """The other end: a worker process and the task that it is at.

    Args:
        dataset: The folder.
        folder, scratch: As `pipelines.tuning.trial.Trials` takes them.
        engine, master: As `pipelines.data.engine.choose_engine` takes them.
    """

    def __init__(self, dataset: Path, folder: Path, scratch: Path, engine: str, master: str | None) -> None:
        given = {"dataset": str(dataset), "folder": str(folder), "scratch": str(scratch)}
        self._given = json.dumps({**given, "engine": engine, "master": master})
        self._process: subprocess.Popen[str] | None = None
        self.task: Task | None = None

    def start(self, task: Task) -> None:
        """Begin a task, in a new process where there is none."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "pipelines.tuning.worker", self._given]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # `answer` says what became of it
            print(json.dumps(asdict(task)), file=_pipe(self._process.stdin), flush=True)

    @property
    def output(self) -> IO[str]:
        """What can be waited for."""
        assert self._process is not None
        return _pipe(self._process.stdout)

    def answer(self) -> dict[str, Any]:
        """What came of the task, once `output` can be read: `measured`, or why not, as `failed` or `stopped`."""
        assert self._process is not None
        line = self.output.readline()
        self.task = None
        if line:
            return json.loads(line)
        code = self._process.wait()
        why = f"was killed by signal {-code} (9 is often a lack of memory)" if code < 0 else f"ended with code {code}"
        return {"failed": f"the process {why}"}

    def kill(self) -> None:
        """End the process, whatever it is at."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                _pipe(pipe).close()
        self._process, self.task = None, None


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def main() -> None:
    """Run tasks until standard input ends."""
    # Libraries print; only answers may go to standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    given = json.loads(sys.argv[1])
    tasks: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            tasks.put(line)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    from pipelines.data.dataset import Dataset
    from pipelines.tuning.trial import Trials

    engine = choose_engine(given["engine"], given["master"])
    trials = Trials(Dataset.open(given["dataset"]), Path(given["folder"]), Path(given["scratch"]), engine)
    while True:
        task = Task(**json.loads(tasks.get()))
        try:
            answer: dict[str, Any] = {"measured": asdict(trials.run(task))}
        except Stopped as stopped:
            answer = {"stopped": str(stopped)}
        except BadInput as error:
            answer = {"failed": str(error)}
        except Exception as error:  # a trial's fault is its own, whatever it is
            answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
