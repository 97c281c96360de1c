"""Whole or absent, and never at the cost of somebody else's files."""

from __future__ import annotations

import errno
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.artefacts import atomic_file, atomic_folder, read_json, write_json
from pipelines.errors import BadInput


class Stop(Exception):
    """Something goes wrong inside a block."""


def tree(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_a_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a" / "b" / "x.txt") as draft:
        draft.write_text("new")
        assert not (tmp_path / "a" / "b" / "x.txt").exists()
    assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/x.txt": "new"}
    assert (tmp_path / "a" / "b" / "x.txt").stat().st_mode & 0o777 == 0o644


OURS = ("marker", "left over", "new")


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_failed_file_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    put(tmp_path / "x.txt", "old")
    with pytest.raises(type(error)):
        with atomic_file(tmp_path / "x.txt") as draft:
            draft.write_text("half")
            raise error
    assert tree(tmp_path) == {"x.txt": "old"}


def test_a_file_is_replaced(tmp_path: Path) -> None:
    put(tmp_path / "x.txt", "old")
    with atomic_file(tmp_path / "x.txt") as draft:
        draft.write_text("new")
    assert tree(tmp_path) == {"x.txt": "new"}


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real" / "x.txt", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "x.txt")
    with atomic_file(tmp_path / "link") as draft:
        draft.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "x.txt").read_text() == "new"


def test_a_file_that_is_a_folder_is_bad_input_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="is not a file"), atomic_file(tmp_path / "folder"):
        raise AssertionError("the block must not run")


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for device in (pipe, Path("/dev/null")):
        with pytest.raises(BadInput, match="is not a file"), atomic_file(device):
            raise AssertionError("the block must not run")
    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_a_folder_that_is_a_file_is_bad_input(tmp_path: Path, below: str) -> None:
    put(tmp_path / "file", "mine")
    for make in (atomic_file, atomic_folder):
        with pytest.raises(BadInput, match="is not a folder"), make(tmp_path / "file" / below):
            raise AssertionError("the block must not run")
    assert tree(tmp_path) == {"file": "mine"}


def test_a_folder_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a" / "run") as draft:
        put(draft / "deep" / "x", "new")
        assert not (tmp_path / "a" / "run").exists()
    assert tree(tmp_path / "a") == {"run": None, "run/deep": None, "run/deep/x": "new"}
    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_failed_folder_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    put(tmp_path / "run" / "marker", "old")
    for name in ("run", "new"):
        with pytest.raises(type(error)):
            with atomic_folder(tmp_path / name, replaces=OURS) as draft:
                put(draft / "marker", "half")
                raise error
    assert tree(tmp_path) == {"run": None, "run/marker": "old"}


def test_an_older_artefact_is_replaced_as_a_whole(tmp_path: Path) -> None:
    put(tmp_path / "run" / "marker", "old")
    put(tmp_path / "run" / "left over", "old")
    with atomic_folder(tmp_path / "run", replaces=OURS) as draft:
        put(draft / "marker", "new")
        assert (tmp_path / "run" / "left over").exists()
    assert tree(tmp_path) == {"run": None, "run/marker": "new"}


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with atomic_folder(tmp_path / "run") as draft:
        put(draft / "x", "new")
    assert tree(tmp_path) == {"run": None, "run/x": "new"}


@pytest.mark.parametrize("replaces", [(), OURS])
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, replaces: tuple[str, ...]) -> None:
    put(tmp_path / "home" / "letters", "dear")
    with pytest.raises(BadInput, match="is not empty and is not an earlier result"):
        with atomic_folder(tmp_path / "home", replaces=replaces):
            raise AssertionError("the block must not run")
    assert tree(tmp_path) == {"home": None, "home/letters": "dear"}


@pytest.mark.parametrize("names", [("marker", "thesis.txt"), ("left over",)])
def test_an_earlier_result_among_other_files_is_not_deleted(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        put(tmp_path / "project" / name, "mine")
    with pytest.raises(BadInput, match="is not an earlier result"):
        with atomic_folder(tmp_path / "project", replaces=OURS):
            raise AssertionError("the block must not run")
    assert sorted(path.name for path in (tmp_path / "project").iterdir()) == sorted(names)


def test_a_file_or_a_link_is_no_folder_to_replace(tmp_path: Path) -> None:
    put(tmp_path / "file", "mine")
    put(tmp_path / "real" / "marker", "mine")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "nowhere").symlink_to(tmp_path / "not there")
    for name in ("file", "link", "nowhere"):
        with pytest.raises(BadInput, match="exists and is not a folder"):
            with atomic_folder(tmp_path / name, replaces=OURS):
                raise AssertionError("the block must not run")
    assert (tmp_path / "real" / "marker").read_text() == "mine"


def test_files_that_came_meanwhile_are_not_deleted(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not empty"):
        with atomic_folder(tmp_path / "models" / "1") as draft:
            put(draft / "model", "ours")
            put(tmp_path / "models" / "1" / "model", "theirs, published first")
    assert tree(tmp_path / "models") == {"1": None, "1/model": "theirs, published first"}


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "run" / "marker", "old")
    rename = Path.rename

    def fails_into_place(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_into_place)
    with pytest.raises(OSError, match="Input/output"):
        with atomic_folder(tmp_path / "run", replaces=OURS) as draft:
            put(draft / "new", "new")
    assert tree(tmp_path) == {"run": None, "run/marker": "old"}


@pytest.mark.parametrize("name", [".", "..", "a/..", "/"])
def test_a_folder_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="give the name of a new folder"), atomic_folder(Path(name)):
        raise AssertionError("the block must not run")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_what_was_there(tiny_disk: Path) -> None:
    put(tiny_disk / "x", "old")
    put(tiny_disk / "run" / "marker", "old")
    with pytest.raises(OSError, match="No space left"), atomic_file(tiny_disk / "x") as draft:
        draft.write_bytes(bytes(1_000_000))
    with pytest.raises(OSError, match="No space left"), atomic_folder(tiny_disk / "run", replaces=OURS) as draft:
        (draft / "big").write_bytes(bytes(1_000_000))
    assert tree(tiny_disk) == {"x": "old", "run": None, "run/marker": "old"}


@pytest.mark.parametrize("value", [math.nan, math.inf, {"auc": [1.0, -math.inf]}, {"what": object()}])
def test_what_is_no_json_leaves_the_old_file(tmp_path: Path, value: Any) -> None:
    write_json(tmp_path / "x.json", {"old": "é"})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == {"old": "é"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"1" * 5000])
def test_a_file_that_is_no_json_is_bad_input(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.json is not valid JSON") as caught:
        read_json(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"x\.json does not exist"):
        read_json(tmp_path / "x.json")
