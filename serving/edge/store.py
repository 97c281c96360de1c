"""A folder of bundles, of which one is served: swapped while serving, and rolled back."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serving.edge.bundle import MANIFEST
from serving.edge.errors import BadBundle, EdgeError, NotFound
from serving.edge.files import write_atomically
from serving.edge.journal import Journal
from serving.edge.recommender import EdgeRecommender

_log = logging.getLogger(__name__)
STATE = "current.json"
JOURNAL = "items.jsonl"


class BundleStore:
    """Serves the newest bundle of a folder that can be served.

    Bundles are the folder's numbered subfolders, as versions of a model are; the largest number is the newest. The
    chosen number, and those that were rolled back, are kept in `current.json`, what is added and removed on the box in
    `items.jsonl`. A bundle that is refused leaves the one before in service, and is looked at again when its files
    change. Nothing is ever deleted: the older bundles are there to go back to.

    One bundle is in memory, and two while they change places. Requests under way end with the one they began with.

    Args:
        folder: With the numbered bundles.
        poll_seconds: How often to look for a newer bundle; 0 for never, `reload` looks when it is called.

    Raises:
        BadBundle: No bundle can be served.

    Example:
        >>> from serving import BundleStore
        >>> store = BundleStore("bundles", poll_seconds=0)
        >>> store.number, len(store.recommender.recommend([], k=3))
        ('1', 3)
    """

    def __init__(self, folder: Path | str, *, poll_seconds: float = 5.0) -> None:
        self.folder = Path(folder)
        self.refused: dict[str, str] = {}
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._poll_seconds = poll_seconds
        # Held while bundles change places, or items: neither may miss the other.
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        if (self.folder / MANIFEST).exists():
            raise BadBundle(
                f"{self.folder} is itself a bundle: give the folder that holds it under a number, such as 1."
            )
        if not self.folder.is_dir():
            raise BadBundle(f"{self.folder} is not a folder: give the one that holds the numbered bundles.")
        self._held_back = _read_state(self.folder / STATE)
        self._journal = Journal(self.folder / JOURNAL)
        found = self._first_of(self._numbers(self._held_back))
        if found is None:
            reasons = list(self.refused.values())
            back = f" that was not rolled back (remove {STATE} to serve the newest)" if self._held_back else ""
            raise BadBundle(
                reasons[0] if reasons else f"{self.folder} has no numbered bundle, such as 1,{back} to serve."
            )
        self._number, self._served = found

    @property
    def recommender(self) -> EdgeRecommender:
        """The one in service now."""
        return self._served

    @property
    def number(self) -> str:
        """The name of the bundle in service."""
        return str(self._number)

    def add_item(self, item: str, **known: Any) -> None:
        """See `EdgeRecommender.add_item`; it is kept over restarts, and encoded again when another bundle is served."""
        with self._changing:
            self._served.add_item(item, **known)

    def remove_item(self, item: str) -> None:
        """See `EdgeRecommender.remove_item`; it is kept over restarts and other bundles."""
        with self._changing:
            self._served.remove_item(item)

    def reload(self, number: int | None = None) -> str:
        """Serve the newest bundle that was not rolled back, or the one of this number, and return its name.

        Raises:
            NotFound: There is no bundle of that number.
            BadBundle: The bundle is refused; the one before goes on serving.
        """
        with self._changing:
            if number is not None:
                if number not in self._numbers(set()):
                    raise NotFound(f"{self.folder} has no bundle {number}.")
                self._serve(number, self._load(number), {each for each in self._numbers(set()) if each > number})
                return self.number
            newer = [each for each in self._numbers(self._held_back) if each > self._number]
            found = self._first_of(newer)
            if found is not None:
                self._serve(*found, self._held_back)
            elif newer:
                raise BadBundle(f"{self.refused[str(newer[0])]} Bundle {self._number} goes on serving.")
            return self.number

    def rollback(self) -> str:
        """Serve the next older bundle from now on, and return its name. `reload` with a number goes forward again.

        Raises:
            NotFound: There is no older bundle that can be served.
        """
        with self._changing:
            older = [each for each in self._numbers(set()) if each < self._number]
            found = self._first_of(older)
            if found is None:
                reasons = "".join(f" {self.refused[str(each)]}" for each in older[:1])
                raise NotFound(f"There is no bundle before {self._number} to go back to.{reasons}")
            self._serve(*found, {each for each in self._numbers(set()) if each > found[0]})
            return self.number

    def start(self) -> None:
        """Look for newer bundles from now on, in a thread."""
        if self._poll_seconds > 0 and self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="bundles", daemon=True)
            self._watcher.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.look()
            except Exception:
                # Whatever is wrong with what lies there, the bundle in service is good.
                _log.exception("%s cannot be looked at.", self.folder)

    def look(self) -> bool:
        """Serve a newer bundle, if there is one that was not refused as it is; whether one is served."""
        with self._changing:
            newer = [each for each in self._numbers(self._held_back) if each > self._number]
            found = self._first_of([each for each in newer if self._seen.get(str(each)) != self._files(each)])
            if found is None:
                return False
            self._serve(*found, self._held_back)
            return True

    def _numbers(self, without: set[int]) -> list[int]:
        """The newest first."""
        names = [path.name for path in self.folder.iterdir() if path.name.isdecimal() and path.is_dir()]
        return sorted({int(name) for name in names if str(int(name)) == name} - without, reverse=True)

    def _first_of(self, numbers: list[int]) -> tuple[int, EdgeRecommender] | None:
        for number in numbers:
            try:
                return number, self._load(number)
            except BadBundle as error:
                _log.warning("Bundle %d is refused: %s", number, error)
        return None

    def _load(self, number: int) -> EdgeRecommender:
        before = self._files(number)
        try:
            found = EdgeRecommender(self.folder / str(number), self._journal)
        except (EdgeError, OSError) as error:
            self.refused[str(number)] = str(error)
            self._seen[str(number)] = before
            if isinstance(error, BadBundle):
                raise
            raise BadBundle(f"{self.folder / str(number)} cannot be served: {error}") from None
        self.refused.pop(str(number), None)
        return found

    def _serve(self, number: int, recommender: EdgeRecommender, held_back: set[int]) -> None:
        # On disk first: what is served after a restart is what was promised.
        content = {"serving": number, "held_back": sorted(held_back)}
        write_atomically(self.folder / STATE, json.dumps(content).encode() + b"\n")
        self._held_back = held_back
        self._number, self._served = number, recommender
        _log.info("Bundle %d is served.", number)

    def _files(self, number: int) -> tuple[Any, ...]:
        """What changes when somebody writes into a bundle."""
        try:
            files = sorted((self.folder / str(number)).iterdir())
            return tuple((path.name, *_stamp(path)) for path in files)
        except OSError:
            return ()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _read_state(path: Path) -> set[int]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {int(number) for number in value["held_back"]}
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError):
        raise BadBundle(f"{path} cannot be read: remove it, and the newest bundle is served.") from None
