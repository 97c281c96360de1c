from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.edge.errors import BadBundle, NotFound
from serving.edge.store import BundleStore


def bring(folder: Path, bundle: Path, number: int) -> Path:
    """Copy a bundle in as `quantise` writes one: under another name first."""
    shutil.copytree(bundle, folder / ".draft")
    return Path((folder / ".draft").rename(folder / str(number)))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_newer_bundle_takes_over_and_the_older_one_comes_back(store_folder: Path, bundles: list[Path]) -> None:
    store = BundleStore(store_folder)
    first = store.recommender.recommend()
    assert not store.look()
    bring(store_folder, bundles[1], 2)
    assert store.look()
    assert store.number == "2"
    assert store.recommender.recommend() != first
    assert store.rollback() == "1"
    assert store.recommender.recommend() == first
    # What was rolled back does not return by itself, nor after a restart.
    assert not store.look()
    assert store.reload() == "1"
    assert BundleStore(store_folder).number == "1"
    bring(store_folder, bundles[1], 3)
    assert store.look()
    assert store.number == "3"
    assert store.rollback() == "2"
    assert store.reload(3) == "3"
    assert BundleStore(store_folder).number == "3"


def missing(folder: Path) -> None:
    (folder / "user.tflite").unlink()


def flipped(folder: Path) -> None:
    flip(folder / "items.npz")


def newer(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"format": 1', '"format": 2'))


@pytest.mark.parametrize(("damage", "told"), [(missing, "missing"), (flipped, "checksum"), (newer, "format 2")])
def test_a_bad_bundle_is_refused_and_the_old_one_goes_on(
    store_folder: Path, bundles: list[Path], damage: Callable[[Path], None], told: str
) -> None:
    store = BundleStore(store_folder)
    first = store.recommender.recommend()
    bad = bring(store_folder, bundles[1], 2)
    damage(bad)
    assert not store.look()
    assert told in store.refused["2"]
    with pytest.raises(BadBundle, match=told):
        store.reload()
    with pytest.raises(BadBundle, match=told):
        store.reload(2)
    assert store.number == "1"
    assert store.recommender.recommend() == first
    assert BundleStore(store_folder).number == "1"
    # Once it is mended, it is looked at again.
    for path in bundles[1].iterdir():
        shutil.copyfile(path, bad / path.name)
    assert store.look()
    assert store.number == "2"
    assert not store.refused


def test_a_refused_bundle_is_not_read_again_until_it_changes(
    store_folder: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BundleStore(store_folder)
    missing(bring(store_folder, bundles[1], 2))
    assert not store.look()
    monkeypatch.setattr(store, "_load", lambda number: pytest.fail("it was read again"))
    assert not store.look()


def test_rolling_back_skips_what_is_damaged_and_says_when_there_is_nothing(
    store_folder: Path, bundles: list[Path]
) -> None:
    for number in (2, 3):
        bring(store_folder, bundles[1], number)
    store = BundleStore(store_folder)
    flip(store_folder / "2" / "user.tflite")
    assert store.rollback() == "1"
    with pytest.raises(NotFound, match="no bundle before 1"):
        store.rollback()
    with pytest.raises(NotFound, match="no bundle 9"):
        store.reload(9)


def test_articles_added_on_the_box_go_over_to_the_next_bundle(store_folder: Path, bundles: list[Path]) -> None:
    store = BundleStore(store_folder)
    store.add_item("new", title="storm")
    store.remove_item("i05")
    bring(store_folder, bundles[1], 2)
    assert store.look()
    for served in (store, BundleStore(store_folder)):
        found = dict(served.recommender.recommend(k=1000))
        assert "new" in found
        assert "i05" not in found
    assert store.rollback() == "1"
    assert "new" in dict(store.recommender.recommend(k=1000))


def test_no_article_is_lost_and_no_answer_mixed_while_bundles_change(store_folder: Path, bundles: list[Path]) -> None:
    bring(store_folder, bundles[1], 2)
    store, stop, failures = BundleStore(store_folder), threading.Event(), []
    expected = {}
    for _ in range(2):
        expected[store.recommender.bundle.identity] = store.recommender.recommend(k=3)
        if store.number == "2":
            store.rollback()

    def ask() -> None:
        try:
            while not stop.is_set():
                recommender = store.recommender
                found = [each for each in recommender.recommend(k=30) if not each[0].startswith("new")]
                assert found[:3] == expected[recommender.bundle.identity]
        except BaseException as failure:
            failures.append(failure)

    def add() -> None:
        try:
            for number in range(20):
                store.add_item(f"new{number:02}", title="storm")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask), threading.Thread(target=add)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        store.reload(2)
        store.rollback()
    threads[1].join()
    stop.set()
    threads[0].join()
    assert not failures
    assert {f"new{number:02}" for number in range(20)} <= set(dict(store.recommender.recommend(k=1000)))


def test_a_watched_folder_is_looked_at_by_itself(store_folder: Path, bundles: list[Path]) -> None:
    with BundleStore(store_folder, poll_seconds=0.01) as store:
        bring(store_folder, bundles[1], 2)
        waited = threading.Event()
        for _ in range(1000):
            if store.number == "2":
                break
            waited.wait(0.01)
        assert store.number == "2"


def test_a_folder_without_bundles_is_told(tmp_path: Path, bundles: list[Path]) -> None:
    with pytest.raises(BadBundle, match="is not a folder"):
        BundleStore(tmp_path / "nowhere")
    with pytest.raises(BadBundle, match="no numbered bundle"):
        BundleStore(tmp_path)
    with pytest.raises(BadBundle, match="is itself a bundle"):
        BundleStore(bundles[0])
    (tmp_path / "1").mkdir()
    with pytest.raises(BadBundle, match="has no manifest"):
        BundleStore(tmp_path)
    (tmp_path / "current.json").write_text("{")
    with pytest.raises(BadBundle, match="remove it"):
        BundleStore(tmp_path)
