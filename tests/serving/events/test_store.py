"""Stores of both kinds: tables, the event log, users, items."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipelines.data import schema
from serving.events import BadStore, EventLog, SlateLog, Store, StoreAway, StoreBusy
from serving.events.items import changed_items, pages, put_items, read_contents, remove_item, trending
from serving.events.tables import EVENTS, ITEMS, KINDS, METADATA, POSITIVE_KINDS, SLATES
from serving.events.users import NOBODY, UserState, erase, read_state


@pytest.fixture
def store(where: Path | str) -> Iterator[Store]:
    with Store(where) as opened:
        yield opened


@pytest.fixture
def log(store: Store) -> Iterator[EventLog]:
    opened = EventLog(store)
    yield opened
    opened.close()


def event(number: int, user: str = "u1", item: str = "i1", **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "user_id": user, "item_id": item, "kind": "click", "at": number * 10**6} | more


def rows(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    return [row for page in pages(store, table, 3) for row in page]


def test_columns_are_called_as_in_a_dataset() -> None:
    assert [column.name for column in EVENTS.columns] == schema.EVENTS.names
    assert [column.name for column in ITEMS.columns][: len(schema.ITEMS)] == schema.ITEMS.names
    assert KINDS == schema.KINDS
    assert POSITIVE_KINDS == schema.POSITIVE_KINDS
    for field in (*schema.EVENTS, *schema.ITEMS):
        table = EVENTS if field.name in schema.EVENTS.names else ITEMS
        assert table.c[field.name].nullable == field.nullable


def test_the_migrations_make_the_tables(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_replicas_that_start_together_open_one_store(where: Path | str) -> None:
    code = "import sys; from serving.events import Store; Store(sys.argv[1]).close()"
    started = [subprocess.Popen([sys.executable, "-c", code, str(where)]) for _ in range(3)]
    assert [each.wait(60) for each in started] == [0, 0, 0]
    with Store(where, create=False) as store:
        assert store.counters() == {"items": 0, "keys": 0, "erasures": 0, "experiments": 0}


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadStore, match="no store"):
        Store(tmp_path, create=False)
    with pytest.raises(BadStore, match="mysql://"):
        Store("mysql://somewhere/x")
    (tmp_path / "file").touch()
    with pytest.raises(BadStore):
        Store(tmp_path / "file")
    with pytest.raises(StoreAway):
        Store("postgresql://nobody@127.0.0.1:1/x")


def test_a_newer_store_is_refused(where: Path | str) -> None:
    with Store(where) as store, store.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '999'"))
    with pytest.raises(BadStore, match="newer"):
        Store(where)


def test_an_event_is_there_once(store: Store, log: EventLog) -> None:
    assert log.append([event(1), event(2), event(1)]).result(10) == 2
    assert log.append([event(2, kind="like"), event(3)]).result(10) == 1
    found = rows(store, EVENTS)
    assert [row["event_id"] for row in found] == ["e1", "e2", "e3"]
    assert found[1]["kind"] == "click"
    assert found[0]["at"] == 1_000_000


def test_many_at_once_are_all_there_and_counted_once(store: Store) -> None:
    """Two replicas, each with callers that send partly the same events."""
    logs = [EventLog(store), EventLog(store)]
    with ThreadPoolExecutor(16) as threads:
        sent = [[event(start + place) for place in range(20)] for start in range(0, 400, 10)]
        new = list(threads.map(lambda each: logs[each[0] % 2].append(each[1]).result(30), enumerate(sent)))
    for each in logs:
        each.close()
    assert sum(new) == 410 == len(rows(store, EVENTS))


def test_a_full_queue_refuses_and_takes_nothing(store: Store) -> None:
    log = EventLog(store, most_waiting=10)
    held = threading.Event()
    write = log._writer._write
    log._writer._write = lambda batches: (held.wait(10), write(batches))[1]  # a slow disk
    first = log.append([event(number) for number in range(8)])
    with pytest.raises(StoreBusy):
        log.append([event(number) for number in range(100, 108)])
    held.set()
    assert first.result(10) == 8
    assert log.append([event(200)]).result(10) == 1
    log.close()
    with pytest.raises(StoreBusy):
        log.append([event(300)])
    assert len(rows(store, EVENTS)) == 9


def test_closing_writes_what_waits(store: Store) -> None:
    log = EventLog(store)
    futures = [log.append([event(number)]) for number in range(200)]
    log.close()
    assert sum(future.result(0) for future in futures) == len(rows(store, EVENTS)) == 200


def test_one_that_cannot_be_written_does_not_spoil_the_others(store: Store) -> None:
    log = EventLog(store)
    held = threading.Event()
    write = log._writer._write
    log._writer._write = lambda batches: (held.wait(10), write(batches))[1]
    bad: dict[str, Any] = {**event(2), "user_id": None}
    futures = [log.append([each]) for each in (event(0), event(1), bad, event(3))]
    held.set()
    results = [future.exception(10) for future in futures]
    log.close()
    assert [each is None for each in results] == [True, True, False, True]
    assert [row["event_id"] for row in rows(store, EVENTS)] == ["e0", "e1", "e3"]


def test_a_full_disk_keeps_nothing_of_a_group(tmp_path: Path) -> None:
    with Store(tmp_path) as store:

        def limit(connection: Any, entry: Any) -> None:
            connection.execute("PRAGMA max_page_count=60").close()

        sa.event.listen(store.engine, "connect", limit)
        store.engine.dispose()
        log = EventLog(store)
        assert log.append([event(0)]).result(10) == 1
        with pytest.raises(StoreAway, match="full"):
            log.append([event(number, item="x" * 500) for number in range(1, 1000)]).result(10)
        assert log.append([event(2000)]).result(10) == 1
        log.close()
        assert [row["event_id"] for row in rows(store, EVENTS)] == ["e0", "e2000"]


def test_a_database_that_went_away_and_came_back(new_database: Any, postgres: Any) -> None:
    with Store(new_database()) as store:
        log = EventLog(store)
        assert log.append([event(0)]).result(10) == 1
        postgres.stop()
        try:
            with pytest.raises(StoreAway):
                log.append([event(1)]).result(30)
        finally:
            postgres.start()
        assert log.append([event(1), event(0)]).result(30) == 1
        log.close()


def test_a_state_is_what_training_makes_of_it(store: Store, log: EventLog) -> None:
    assert read_state(store, "u1", history=3, seen=10) == NOBODY
    log.append(
        [
            event(1, item="a", request_id="r1", device="mobile"),
            event(2, item="a", request_id="r1", kind="read", dwell_seconds=40.0),
            event(3, item="b", kind="impression"),
            event(4, item="c", kind="dislike"),
            event(5, item="d", scroll_depth=0.5),
            event(6, item="e", kind="rating", value=1.0),
            event(7, item="f", kind="rating", value=5.0),
            event(8, item="g", user="u2"),
        ]
    ).result(10)
    expected = UserState(
        ["a", "d", "f"], [1.0, 5.0, 7.0], [40.0, 0.0, 0.0], [0.0, 0.5, 0.0], ["f", "e", "d", "c", "a"], "mobile"
    )
    assert read_state(store, "u1", history=3, seen=10, positive_rating=4.0) == expected
    assert read_state(store, "u1", history=2, seen=10).item_ids == ["e", "f"]
    assert read_state(store, "u1", history=5, seen=2).seen == ["f", "e"]


def test_an_erased_user_leaves_nothing(where: Path | str, store: Store, log: EventLog) -> None:
    slates = SlateLog(store)
    log.append([event(1, user="karl.k@example.org"), event(2, user="u2")]).result(10)
    slate = {"placement": "home", "at": 1, "items": "[]"}
    slates.append(slate | {"request_id": "r1", "user_id": "karl.k@example.org"}).result(10)
    slates.append(slate | {"request_id": "r2", "user_id": "u2"}).result(10)
    assert erase(store, "karl.k@example.org") == (2, True)
    assert erase(store, "karl.k@example.org") == (0, True)
    assert [row["user_id"] for row in rows(store, EVENTS) + rows(store, SLATES)] == ["u2", "u2"]
    assert store.counters()["erasures"] == 2
    slates.close()
    if isinstance(where, Path):
        assert not [file.name for file in where.iterdir() if b"karl.k" in file.read_bytes()]


def test_a_reader_of_the_log_keeps_nobody_from_writing(tmp_path: Path) -> None:
    with Store(tmp_path) as store, Store(tmp_path) as notebook, notebook.reading() as reader:
        log = EventLog(store)
        log.append([event(1, user="karl")]).result(10)
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("SELECT count(*) FROM events").scalar()
        began = time.monotonic()
        assert erase(store, "karl") == (1, False)
        assert not store.forget_old_pages()
        assert log.append([event(2)]).result(10) == 1
        assert time.monotonic() - began < 5, "it waited for the reader, which SQLite does for ten seconds"
        # Whoever has that connection next waits for other writers again.
        with store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000
        reader.exec_driver_sql("ROLLBACK")
        assert store.forget_old_pages()
        log.close()


def test_items_are_read_by_what_changed(store: Store) -> None:
    first = put_items(store, [{"item_id": f"i{number:02}", "title": f"t{number}"} for number in range(12)], None)
    second = put_items(store, [{"item_id": "i03", "category": "sport", "tags": ["a", "ü"], "language": "de"}], 77)
    assert second > first
    assert len(changed_items(store, 0)) == 12
    (changed,) = changed_items(store, first)
    assert (changed.item_id, changed.category, changed.tags, changed.put_at) == ("i03", "sport", ("a", "ü"), 77)
    assert remove_item(store, "i05", 99)
    assert not remove_item(store, "i05", 100)
    assert remove_item(store, "nothing", 100), "a model may know it"
    removed = [(each.item_id, each.removed_at) for each in changed_items(store, second)]
    assert removed == [("i05", 99), ("nothing", 100)]
    put_items(store, [{"item_id": "i05", "title": "back"}], 101)
    assert [each.removed_at for each in changed_items(store, second)] == [100, 0]
    contents = {each.item_id: each for each in read_contents(store, ["i03", "i05", "neither"])}
    assert (contents["i05"].title, contents["i03"].title, contents["i03"].tags) == ("back", "", ("a", "ü"))


def test_an_import_changes_nothing_that_the_api_said(store: Store) -> None:
    names = ("put", "removed", "other")
    put_items(store, [{"item_id": name, "title": "old"} for name in names], None)
    put_items(store, [{"item_id": "put", "title": "new"}], 5)
    remove_item(store, "removed", 6)
    put_items(store, [{"item_id": name, "title": "again"} for name in names], None)
    assert {each.item_id: each.title for each in read_contents(store, names)} == {
        "put": "new",
        "removed": "old",
        "other": "again",
    }
    assert {each.item_id: each.removed_at for each in changed_items(store, 0)}["removed"] == 6
    put_items(store, [{"item_id": "removed", "title": "back"}], 7)
    assert {each.item_id: each.removed_at for each in changed_items(store, 0)}["removed"] == 0


def test_a_reader_of_changes_misses_none(store: Store) -> None:
    """Writers commit side by side; whoever reads on from the last change it saw finds all."""
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        since = 0
        while True:
            last = done.is_set()
            for each in changed_items(store, since):
                seen.add(each.item_id)
                since = each.changed
            if last:
                return

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: put_items(store, [{"item_id": f"i{number}"}], 1), range(60)))
    done.set()
    reader.join()
    assert len(seen) == 60


def test_what_trends_is_wanted_by_most_users(store: Store, log: EventLog) -> None:
    sent = [event(number, user=f"u{number % 5}", item="often") for number in range(10, 15)]
    sent += [event(number, user="one", item="one user") for number in range(20, 40)]
    sent += [event(50, item="old", at=1), event(51, item="shown", kind="impression")]
    log.append(sent).result(10)
    assert trending(store, 5_000_000, 10) == [("often", 5), ("one user", 1)]
    assert trending(store, 5_000_000, 10, 2) == [("often", 5)]
    log.append([event(60 + each, user=f"u{each}", item="bad", kind="rating", value=1.0) for each in range(9)]).result(
        10
    )
    assert trending(store, 5_000_000, 1)[0] == ("bad", 9)
    assert trending(store, 5_000_000, 1, positive_rating=3.0)[0] == ("often", 5)


def test_a_store_synchronises_at_each_commit(tmp_path: Path) -> None:
    with Store(tmp_path) as store, store.reading() as connection:
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert values == ["wal", 2]
