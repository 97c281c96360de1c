"""The examples in the docstrings of what the packages export are run, in the folder that they are for."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pipelines
import serving
import towers

PACKAGES = {each.__name__: each for each in (pipelines, towers, serving)}
NAMES = [(name, export) for name, package in PACKAGES.items() for export in package.__all__]
# What these examples make is what the others begin with: a dataset, a run, a model, a store and a bundle.
FIRST = [("pipelines", name) for name in ("import_newsroom", "train", "export", "fill_store", "quantise")]
# Trains several times: tests of their own run what these examples show.
SLOW = {"ablate", "adapt", "cross_validate", "pretrain", "retrain", "Retrained", "simulate", "tune", "Busy", "Stopped"}
_PARSER = doctest.DocTestParser()


def example_of(package: str, name: str) -> doctest.DocTest:
    """The example of an exported name, in its own docstring."""
    found = getattr(PACKAGES[package], name)
    text = inspect.cleandoc(found.__doc__ or "")
    return _PARSER.get_doctest(text, {}, f"{package}.{name}", inspect.getsourcefile(found), 0)


def what_failed(package: str, name: str, **known: str) -> str:
    """What an example printed instead of what it says; nothing where it is right."""
    example = example_of(package, name)
    example.globs |= known
    said: list[str] = []
    runner: Any = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    return "".join(said) if runner.run(example, out=said.append).failed else ""


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], str]]:
    """The folder of the examples, and what failed of those that make it."""
    folder = tmp_path_factory.mktemp("examples")
    with inside(folder):
        return folder, {each: what_failed(*each) for each in FIRST}


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_the_example_runs(
    package: str,
    name: str,
    request: pytest.FixtureRequest,
    tiny_preset: str,
    tiny_image_preset: str,
    require: Callable[[object, str], None],
) -> None:
    assert example_of(package, name).examples, f"{package}.{name} has no example"
    if name == "ScannIndex":
        require(importlib.util.find_spec("scann"), "scann is not installed")
    folder, failed = request.getfixturevalue("examples")
    if (package, name) in failed:
        assert not failed[package, name], failed[package, name]
        return
    with inside(folder):
        wrong = what_failed(package, name, preset=tiny_preset, image_preset=tiny_image_preset)
    assert not wrong, wrong


def test_only_what_trains_several_times_is_not_run() -> None:
    skipped = {
        name
        for package, name in NAMES
        if any(each.options.get(doctest.SKIP) for each in example_of(package, name).examples)
    }
    assert skipped == SLOW
