"""Every command of README and the guides is run, in the order of its page, in a folder of the page's own.

`belfry` runs in this process, or, where it stays up, as a process of its own until the page ends; curl is curl; Python
is run with what stands before it on the page; a YAML block whose first line names a file is that file. What a page
begins with is declared in BEGINS_WITH. Sizes are smaller in one way for all pages: SMALLER, `smaller_recipe` and the
newsroom. What cannot run here is listed with the reason, and its options are read all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main

from pipelines.cli.app import app
from pipelines.cli.app import run as belfry
from pipelines.recipe import Recipe
from recipes import names, shipped
from tests.docs.pages import PAGES, ROOT, Command, blocks, commands, files

# What a page begins with: names that it uses, and the fixture that each is a copy of.
_TABLES = {"clicks.csv": "clicks", "articles.csv": "articles"}
_SOURCES = {
    **{f"{name}.csv": f"{name}_csv" for name in ("events", "items", "users")},
    "MIND/train": "mind",
    "ML100K": "movielens",
    "store": "store",
}
_DATA = {"data/mine": "dataset_folder"}
_RUN = {**_DATA, "runs/mine": "run_folder"}
_MODEL = {**_RUN, "models/mine/1": "version_folder"}
_TRIED = {**_MODEL, "models/mine/7": "version_folder"}
BEGINS_WITH: dict[str, dict[str, str]] = {
    "README.md": _TABLES,
    "docs/data.md": {**_TABLES, **_SOURCES},
    "docs/edge.md": _MODEL,
    "docs/experiments.md": {**_TRIED, "store": "store"},
    "docs/gateway.md": _MODEL,
    "docs/measured.md": {},
    "docs/scale-out.md": _RUN,
    "docs/tf-serving.md": {**_RUN, "data/next": "dataset_folder"},
    "docs/towers.md": {**_DATA, "data/next": "grown_dataset_folder"},
    "docs/tuning.md": _RUN,
}

# What does not run here, and why. A program:
NOT_HERE = {
    "git": "the clone is this repository",
    "cd": "the folder is the page's",
    ".": "the environment is that of the tests",
    "make": "its targets are looked up in the Makefile",
    "docker": "no daemon: tests/serving/deploy reads compose.yaml and the flags",
    "kubectl": "no cluster: tests/serving/deploy validates the manifests",
}
# A command of belfry that takes long, or needs what not every machine has, and the test that runs it:
ELSEWHERE = {
    "demo": "tests/pipelines/test_demo.py",
    "pretrain": "tests/pipelines/test_pretraining.py",
    "retrain": "tests/pipelines/retraining/test_steps.py",
    "simulate": "tests/pipelines/simulation/test_simulate.py",
    "scann": "tests/pipelines/test_scann.py",
}
# A machine that is not here, such as db.internal, and what runs the same against one that is.
OTHER_MACHINES = {"postgresql": "tests/serving/conftest.py", "spark": "tests/pipelines/conftest.py"}
_INTERNAL = re.compile(r"\b[a-z]+\.internal\b")

# Options that say how much, with what they are here.
SMALLER = {"--epochs": "1", "--folds": "2", "--trials": "1", "--histories": "50"}
PORTS = ("8080", "8500", "8501", "8510")
_PORT = re.compile(rf"\b({'|'.join(PORTS)})\b")
# What stays up, with the ports that it has where the page names none, and the one that says that it is ready.
SERVERS: dict[str, tuple[dict[str, str], str]] = {
    "serve": ({"--port": "8080", "--rest-port": "8501", "--grpc-port": "8500"}, "8080"),
    "model-server": ({}, "8501"),
    "edge": ({}, "8510"),
}


def smaller_recipe(recipe: Recipe, preset: str) -> Recipe:
    """The same recipe with a tiny text encoder, narrow towers, short histories and one epoch.

    What fine-tunes an encoder stays as it is: its layers have numbers, and no page trains it.
    """
    if recipe.fine_tuning is not None or recipe.image_tuning is not None:
        return recipe
    changes: dict[str, Any] = {"training.epochs": 1, "training.batch_size": 64}
    changes |= {"features.history": 8, "towers.width": 16, "towers.history_units": 8}
    if recipe.features.text is not None:
        changes |= {"features.text.preset": preset, "features.text.max_tokens": 12}
    return recipe.changed(changes | {"search": recipe.model_dump()["search"]})


@dataclass
class Reader:
    """Somebody who follows one page."""

    folder: Path
    ports: dict[str, str]
    up: list[tuple[str, subprocess.Popen[str], list[str]]] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)

    def port(self, text: str) -> str:
        return _PORT.sub(lambda found: self.ports[found.group(1)], text)

    def follow(self, command: Command) -> None:
        program, *arguments = (self.port(word) for word in command.words)
        if program in NOT_HERE:
            check_elsewhere(program, arguments)
        elif program == "belfry":
            self._belfry(arguments, command)
        elif program == "curl":
            options = ["--silent", "--show-error", "--fail-with-body", "--max-time", "30"]
            done = subprocess.run(["curl", *options, *arguments], capture_output=True, text=True)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            if arguments[0].endswith("/v1/recommendations"):
                answer = json.loads(done.stdout)
                assert answer["items"], f"{command}: an empty feed"
                assert not answer.get("fallback"), f"{command}: no personalised feed: {answer}"
        else:
            pytest.fail(f"nobody can run this: {command}")

    def _belfry(self, arguments: list[str], command: Command) -> None:
        name = arguments[0]
        if name in ELSEWHERE or ELSEWHERE.keys() & arguments[1:] or _INTERNAL.search(str(command)):
            read_options(arguments)
            return
        for place, word in enumerate(arguments[:-1]):
            arguments[place + 1] = SMALLER.get(word, arguments[place + 1])
        if name in SERVERS or "--watch" in arguments:
            self._start(arguments, command)
            return
        code = belfry(arguments)
        assert code == 0, f"{command}: exit code {code}"

    def _start(self, arguments: list[str], command: Command) -> None:
        """Start what stays up, and wait until it is ready; what has its ports ends before."""
        name, watches = arguments[0], "--watch" in arguments
        usual, ready = ({}, "") if watches else SERVERS[name]
        for option, port in usual.items():
            arguments += [] if option in arguments else [option, self.ports[port]]
        taken = [] if watches else [port for port in self.ports.values() if any(port in word for word in arguments)]
        for each in [each for each in self.up if set(each[2]) & set(taken)]:
            self._end(each)
        program = str(Path(sys.executable).with_name("belfry"))
        log = self.folder / f"process-{len([*self.folder.glob('process-*')])}.log"
        # On a busy machine a fallback would answer within the usual deadline.
        environment = os.environ | {"BELFRY_DEADLINE_MS": "5000"} | command.environment | {"PYTHONPATH": str(ROOT)}
        with log.open("w") as output:
            process = subprocess.Popen(
                [program, *arguments], stdout=output, stderr=subprocess.STDOUT, text=True, env=environment
            )
        self.up.append((f"{command} ({log})", process, taken))
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            said = log.read_text()
            assert process.poll() in (None, 0), f"{command}: {said}"
            if watches and (said.strip() or process.poll() == 0):
                return
            with contextlib.suppress(httpx.HTTPError):
                if not watches and httpx.get(f"http://127.0.0.1:{self.ports[ready]}/readyz").status_code == 200:
                    return
            time.sleep(0.2)
        pytest.fail(f"{command} is not ready: {log.read_text()}")

    def _end(self, each: tuple[str, subprocess.Popen[str], list[str]]) -> None:
        self.up.remove(each)
        process = each[1]
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        assert code in (0, 130), f"{each[0]}: ended with {code}"

    def stop(self) -> None:
        with contextlib.ExitStack() as ending:
            for each in self.up.copy():
                ending.callback(self._end, each)


def read_options(arguments: Sequence[str]) -> None:
    """Read a command's arguments as the command line would, and do not run it."""
    found: Any = typer.main.get_command(app)
    name, rest = "belfry", list(arguments)
    while hasattr(found, "commands"):
        name, *rest = rest
        found = found.commands[name]
    found.make_context(name, rest)


def check_elsewhere(program: str, arguments: Sequence[str]) -> None:
    """What can be said of a command that does not run here."""
    if program == "make":
        targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(arguments) <= set(targets)
    for option, value in pairwise(arguments):
        if option in ("--file", "--kustomize"):
            assert (ROOT / value).exists(), f"{program} {option} {value}"


@pytest.fixture
def follow(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_preset: str
) -> Iterator[Callable[[str], Reader]]:
    from pipelines.data.sources.newsroom.sizes import SIZES, NewsroomSize

    monkeypatch.setitem(SIZES, "small", NewsroomSize(articles=250, users=60, days=4, requests=500))
    readers: list[Reader] = []

    def begin(page: str) -> Reader:
        for name, fixture in BEGINS_WITH[page].items():
            source: Path = request.getfixturevalue(fixture)
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
        (tmp_path / "recipes").mkdir()
        for name in names():
            shutil.copy(shipped(name), tmp_path / "recipes")
        for name, text in files(page).items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        for path in (tmp_path / "recipes").iterdir():
            path.write_text(smaller_recipe(Recipe.load(path), tiny_preset).dump(), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        readers.append(Reader(tmp_path, dict(zip(PORTS, free_ports(len(PORTS)), strict=True))))
        return readers[0]

    yield begin
    for reader in readers:
        reader.stop()


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_runs(page: str, follow: Callable[[str], Reader]) -> None:
    reader = follow(page)
    for block in blocks(page):
        if block.language == "console":
            for command in commands(block.text):
                start = os.times()
                reader.follow(command)
                spent = os.times()
                print(f"{spent.user - start.user + spent.children_user - start.children_user:6.1f} s  {command}")
        elif block.language == "python":
            exec(compile(reader.port(block.text), page, "exec"), reader.names)
        else:
            assert block.language in ("yaml", "text"), f"{page} has a block that is neither run nor read: {block}"
    reader.stop()


def test_what_is_said_to_run_elsewhere_does() -> None:
    missing = [path for path in (*ELSEWHERE.values(), *OTHER_MACHINES.values()) if not (ROOT / path).is_file()]
    assert not missing
