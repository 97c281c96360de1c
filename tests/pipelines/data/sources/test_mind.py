"""Importing MIND's two files."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.dataset import Dataset
from pipelines.data.sources.mind import import_mind
from pipelines.errors import BadInput

NOON = "11/12/2019 12:00:00 PM"


def news(item: str, title: str = "A title", body: str = "A text.", entities: str = "[]", kind: str = "sports") -> str:
    return "\t".join([item, kind, "rowing", title, body, "https://example.org", entities, "[]"])


def impression(number: str, user: str, shown: str, history: str = "", time: str = NOON) -> str:
    return "\t".join([number, user, time, history, shown])


NEWS = [news("N1"), news("N2"), news("N3")]


def folder(path: Path, rows: list[str], items: list[str] = NEWS) -> Path:
    path.mkdir(exist_ok=True)
    (path / "news.tsv").write_text("".join(f"{line}\n" for line in items), encoding="utf-8")
    (path / "behaviors.tsv").write_text("".join(f"{line}\n" for line in rows), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_candidates_become_impressions_and_clicks(tmp_path: Path) -> None:
    source = folder(tmp_path / "mind", [impression("7", "U1", "N1-0 N2-1 N3-0")])
    report = import_mind(source, tmp_path / "out")
    events = rows_of(tmp_path / "out" / "events.parquet")
    found = [(e["event_id"], e["kind"], e["item_id"], e["request_id"], e["position"]) for e in events]
    assert found == [
        ("7/0", "impression", "N1", "7", 0),
        ("7/1", "impression", "N2", "7", 1),
        ("7/1/click", "click", "N2", "7", 1),
        ("7/2", "impression", "N3", "7", 2),
    ]
    assert {e["at"] for e in events} == {datetime(2019, 11, 12, 12, tzinfo=UTC)}
    assert (report.tables["candidates"].kept, report.tables["clicks"].kept) == (3, 1)


@pytest.mark.parametrize(
    ("time", "hour"), [("11/9/2019 2:14:46 PM", 14), ("11/09/2019 12:14:46 AM", 0), ("11/9/2019 12:14:46 PM", 12)]
)
def test_times_are_of_twelve_hours(tmp_path: Path, time: str, hour: int) -> None:
    source = folder(tmp_path / "mind", [impression("1", "U1", "N1-0", time=time)])
    import_mind(source, tmp_path / "out")
    (event,) = rows_of(tmp_path / "out" / "events.parquet")
    assert event["at"] == datetime(2019, 11, 9, hour, 14, 46, tzinfo=UTC)


def test_history_is_dated_before_the_first_impression_of_the_file(tmp_path: Path) -> None:
    rows = [
        impression("1", "U1", "N1-0", "N2 N3 N2", "11/13/2019 1:00:00 PM"),
        impression("2", "U2", "N1-0", "N3", NOON),
    ]
    report = import_mind(folder(tmp_path / "mind", rows), tmp_path / "out")
    events = [event for event in rows_of(tmp_path / "out" / "events.parquet") if event["request_id"] is None]
    first = datetime(2019, 11, 12, 12, tzinfo=UTC)
    assert [(e["item_id"], e["at"]) for e in events if e["user_id"] == "U1"] == [
        ("N2", first - timedelta(minutes=3)),
        ("N3", first - timedelta(minutes=2)),
        ("N2", first - timedelta(minutes=1)),
    ]
    assert {event["kind"] for event in events} == {"click"}
    assert any("no time in the source" in what for what in report.tables["history"].noted)


def test_of_differing_histories_the_longest_counts(tmp_path: Path) -> None:
    rows = [impression("1", "U1", "N1-0", "N1"), impression("2", "U1", "N1-0", "N2 N3"), impression("3", "U1", "N1-0")]
    report = import_mind(folder(tmp_path / "mind", rows), tmp_path / "out")
    events = [event["item_id"] for event in rows_of(tmp_path / "out" / "events.parquet") if event["request_id"] is None]
    assert events == ["N2", "N3"]
    assert report.tables["behaviors.tsv"].noted == {"users whose history differs between rows: the longest is used": 1}


def test_candidates_without_labels_are_impressions_without_clicks(tmp_path: Path) -> None:
    report = import_mind(folder(tmp_path / "mind", [impression("1", "U1", "N1 N2")]), tmp_path / "out")
    events = rows_of(tmp_path / "out" / "events.parquet")
    assert [(event["item_id"], event["kind"]) for event in events] == [("N1", "impression"), ("N2", "impression")]
    assert report.tables["candidates"].noted == {"no label -0 or -1: an impression without a click": 2}


def test_items_carry_text_category_and_entity_labels(tmp_path: Path) -> None:
    entities = json.dumps([{"Label": "Eights"}, {"Label": "Henley"}, {"Label": "Eights"}])
    items = [news("N1", entities=entities), news("N2", title="", body=""), news("N3", entities="[{broken")]
    report = import_mind(folder(tmp_path / "mind", [impression("1", "U1", "N1-1")], items), tmp_path / "out")
    first, second, third = rows_of(tmp_path / "out" / "items.parquet")
    assert first["tags"] == ["rowing", "Eights", "Henley"]
    assert (first["title"], first["body"], first["language"], first["category"]) == (
        "A title",
        "A text.",
        "en",
        "sports",
    )
    assert (second["title"], second["body"]) == (None, None)
    assert third["tags"] == ["rowing"]
    assert report.tables["news.tsv"].noted == {
        "no title and no body": 1,
        "entities are not valid JSON; left out": 1,
    }


@pytest.mark.parametrize(
    "entities",
    [
        "{}",
        '["x"]',
        "3",
        "null",
        '[{"Label": 3}]',
        "[" * 5000,
        '[{"Other": "x"}]',
        r'[{"Label": "\ud800"}]',
        r'[{"Label": "a\u0000"}]',
    ],
)
def test_strange_entities_are_never_fatal(tmp_path: Path, entities: str) -> None:
    items = [news("N1", entities=entities)]
    report = import_mind(folder(tmp_path / "mind", [impression("1", "U1", "N1-1")], items), tmp_path / "out")
    assert report.tables["news.tsv"].kept == 1


def test_events_of_items_without_a_row_are_kept_and_noted(tmp_path: Path) -> None:
    report = import_mind(folder(tmp_path / "mind", [impression("1", "U1", "N1-0 N9-1")]), tmp_path / "out")
    assert len(rows_of(tmp_path / "out" / "events.parquet")) == 3
    assert report.tables["candidates"].noted == {"item has no row in news.tsv": 1}
    assert report.tables["clicks"].noted == {"item has no row in news.tsv": 1}


def test_a_repeated_impression_id_never_merges_two_slates(tmp_path: Path) -> None:
    rows = [impression("1", "U1", "N1-0"), impression("1", "U2", "N2-1"), impression("1", "U1", "N1-0")]
    report = import_mind(folder(tmp_path / "mind", rows), tmp_path / "out")
    assert [event["item_id"] for event in rows_of(tmp_path / "out" / "events.parquet")] == ["N1"]
    assert report.tables["behaviors.tsv"].dropped == {
        "impression_id of an earlier row with other content": 1,
        "same as an earlier row": 1,
    }


def test_broken_lines_times_and_ids_are_dropped_by_reason(tmp_path: Path) -> None:
    rows = [
        impression("1", "U1", "N1-0 -1"),
        impression("2", "", "N1-0"),
        impression("3", "U1", "N1-0", time="2019-11-12"),
        impression("4", "U1", "N1-0", time="13/45/2019 2:14:46 PM"),
        impression("5", "U1", ""),
        "6\tU1",
    ]
    report = import_mind(folder(tmp_path / "mind", rows), tmp_path / "out")
    lines = report.tables["behaviors.tsv"]
    assert (lines.read, lines.kept) == (6, 2)
    assert lines.dropped == {
        "user_id is missing (empty, null, none or nan)": 1,
        "time is not like 11/12/2019 2:14:46 PM": 2,
        "wrong number of columns": 1,
    }
    assert lines.noted == {"no candidates": 1}
    assert report.tables["candidates"].dropped == {"item_id is missing (empty, null, none or nan)": 1}


def test_impressions_later_than_now_are_dropped(tmp_path: Path) -> None:
    rows = [impression("1", "U1", "N1-0"), impression("2", "U1", "N1-0", time="11/14/2019 1:00:00 PM")]
    report = import_mind(folder(tmp_path / "mind", rows), tmp_path / "out", now=datetime(2019, 11, 13, tzinfo=UTC))
    assert report.tables["candidates"].dropped == {"at is later than now": 1}


def test_the_dataset_says_what_it_is(tmp_path: Path) -> None:
    report = import_mind(folder(tmp_path / "mind", [impression("1", "U1", "N1-0", "N2")]), tmp_path / "out")
    info = Dataset.open(tmp_path / "out").info
    assert (info.name, info.items, info.events, info.users, info.languages) == ("out", 3, 2, 1, ["en"])
    assert info.report == report.as_dict()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset.json",
        "events.parquet",
        "items.parquet",
    ]


@pytest.mark.parametrize("missing", ["news.tsv", "behaviors.tsv"])
def test_a_missing_file_is_bad_input_and_leaves_nothing(tmp_path: Path, missing: str) -> None:
    source = folder(tmp_path / "mind", [impression("1", "U1", "N1-0")])
    (source / missing).unlink()
    with pytest.raises(BadInput, match=f"{missing} does not exist"):
        import_mind(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mind"]


def test_a_failed_import_leaves_the_earlier_dataset_as_it_was(tmp_path: Path) -> None:
    source = folder(tmp_path / "mind", [impression("1", "U1", "N1-0")])
    import_mind(source, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    folder(source, [impression("1", "", "N1-0")])
    with pytest.raises(BadInput, match="Not one usable event"):
        import_mind(source, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


ANY_LINE = st.text(alphabet='N123 -01\t/:PM"[]{}é\u2028', max_size=60).map(str.encode) | st.binary(max_size=60)
ANY_FIELDS = st.lists(st.text(alphabet="N12 -01/:PAMU\x00", max_size=12), min_size=5, max_size=5)


@given(
    st.lists(ANY_LINE, max_size=5),
    st.lists(ANY_LINE | ANY_FIELDS.map(lambda fields: "\t".join(fields).encode()), max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_any_bytes_give_a_report_that_adds_up_or_bad_input(
    tmp_path_factory: pytest.TempPathFactory, items: list[bytes], rows: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("any")
    source = folder(path / "mind", [impression("1", "U1", "N1-1", "N2")])
    for name, more in (("news.tsv", items), ("behaviors.tsv", rows)):
        with (source / name).open("ab") as file:
            file.write(b"\n".join(more))
    try:
        report = import_mind(source, path / "out")
    except BadInput:
        assert not (path / "out").exists()
        return
    report.check()
    kept = sum(report.tables[name].kept for name in ("candidates", "clicks", "history"))
    assert Dataset.open(path / "out").info.events == kept


def test_mind_mini_train(evaluation_data: Path, tmp_path: Path) -> None:
    report = import_mind(evaluation_data / "mind-mini" / "train", tmp_path / "out")
    kept = {name: count.kept for name, count in report.tables.items()}
    assert (kept["news.tsv"], kept["behaviors.tsv"], kept["candidates"], kept["clicks"]) == (8135, 5000, 189_359, 7542)
    assert not any(count.dropped for count in report.tables.values())
    assert Dataset.open(tmp_path / "out").info.users == 4637


def test_mind_mini_dev(evaluation_data: Path, tmp_path: Path) -> None:
    report = import_mind(evaluation_data / "mind-mini" / "dev", tmp_path / "out")
    kept = {name: count.kept for name, count in report.tables.items()}
    assert (kept["news.tsv"], kept["behaviors.tsv"], kept["candidates"], kept["clicks"]) == (5276, 1416, 17_843, 1554)
    assert not any(count.dropped for count in report.tables.values())
    import_mind(evaluation_data / "mind-mini" / "dev", tmp_path / "again", name="out")
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
