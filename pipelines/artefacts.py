"""Files and folders that are either whole or absent: temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root) / name)
        _sync(Path(root))


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` only if the block succeeds.

    Raises:
        BadInput: `path` is a folder or a device, or its folder is a file.
    """
    path = check_file(path)
    _make_parent(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        _sync(draft)
        draft.replace(path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, replaces: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the name `path` only if the block succeeds.

    Args:
        path: The folder to make. An empty folder of that name is replaced.
        replaces: The names that an older result of the same kind may hold, of which the first must be there. Such a
            folder is replaced (the old one stays in place until the new one is complete). Any other non-empty folder
            is refused, so that a mistyped destination never deletes somebody's files.

    Raises:
        BadInput: `path` exists and must not be replaced.
    """
    path = Path(path)
    check_folder(path, replaces=replaces)
    _make_parent(path)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield draft
        draft.chmod(0o755)
        _sync_tree(draft)
        check_folder(path, replaces=replaces)  # somebody may have written there meanwhile
        if path.exists():
            _exchange(draft, path)
        else:
            draft.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_file(path: Path) -> Path:
    """Refuse now what `atomic_file` would refuse, and return where the file will be, links followed.

    Raises:
        BadInput: `path` is a folder or a device.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is not a file: give the name of a file.")
    return path


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"{path.parent} is not a folder: give another destination.") from None


def check_folder(path: Path, *, replaces: Sequence[str] = ()) -> None:
    """Refuse now what `atomic_folder` would refuse: worth a call before work that takes long.

    Raises:
        BadInput: `path` exists and must not be replaced.
    """
    if path.name in ("", ".."):
        raise BadInput(f"{path} cannot be replaced as a whole: give the name of a new folder.")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BadInput(f"{path} exists and is not a folder: give another destination.")
    held = {each.name for each in path.iterdir()} if path.is_dir() else set()
    if held and not (replaces and replaces[0] in held and held <= set(replaces)):
        foreign = sorted(held - set(replaces))
        what = f" (it holds {foreign[0]})" if foreign else ""
        raise BadInput(f"{path} is not empty and is not an earlier result{what}: give another destination.")


def _exchange(draft: Path, path: Path) -> None:
    """Give `draft` the name of the folder `path`, whose old content goes; if that fails, the old one is back."""
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    old = retired / path.name
    try:
        path.rename(old)
        draft.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        retired.rmdir()
        raise
    shutil.rmtree(retired)


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically. NaN and infinity are refused: a metric must be a number or null."""
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a text, atomically."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that Belfry wrote.

    Raises:
        BadInput: The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist.") from None
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON ({error}).") from None
