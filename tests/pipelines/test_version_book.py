"""The registry as a gateway uses it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.errors import BadInput
from pipelines.registry import Registry
from pipelines.version_book import RegistryBook
from serving.gateway.version_book import BadChange


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two versions; the first is the champion."""
    for version in (1, 2):
        (tmp_path / "feed" / str(version)).mkdir(parents=True)
        (tmp_path / "feed" / str(version) / "saved_model.pb").touch()
    found = Registry(tmp_path)
    for version in (1, 2):
        found.add("feed", version, "trained")
    found.promote("feed", 1, "the first")
    return found


def test_it_tells_and_changes_what_the_registry_holds(registry: Registry) -> None:
    book = RegistryBook(registry.folder, "feed")
    book.promote(2, "better")
    found = book.versions()
    assert found.states == registry.model("feed").states == {1: "retired", 2: "champion"}
    assert (found.before, found.labels) == (1, {"champion": 2, "before": 1})
    assert (found.history[-1].why, found.history[-1].version) == ("better", 2)
    assert found.history[-1].at == round(registry.model("feed").history[-1].at * 1e6)
    assert book.roll_back("complaints") == 1
    assert registry.model("feed").holder("champion") == 1


def test_what_cannot_be_is_one_sentence(registry: Registry) -> None:
    book = RegistryBook(registry.folder, "feed")
    with pytest.raises(BadChange, match=r"^Version 7 of feed is not known to the registry\.$"):
        book.promote(7, "x")
    with pytest.raises(BadChange, match=r"^Version 1 of feed is champion, not candidate or canary\.$"):
        book.retire(1, "x")
    shutil.rmtree(registry.folder)
    with pytest.raises(BadChange, match=r"^The registry cannot be changed here: No such file or directory\.$"):
        book.retire(2, "x")


def test_a_folder_without_a_registry_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no registry"):
        RegistryBook(tmp_path, "feed")
