"""Importing MovieLens 100K's files."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.dataset import Dataset
from pipelines.data.sources.movielens import GENRES, import_movielens
from pipelines.errors import BadInput


def movie(number: str, title: str, released: str, *genres: str) -> str:
    flags = ["1" if genre in genres else "0" for genre in GENRES]
    return "|".join([number, title, released, "", "https://example.org", *flags])


MOVIES = [
    movie("1", "Le Café (1922)", "01-Jan-1922", "Drama", "Comedy"),
    movie("2", "Nowhere (1995)", "", "unknown"),
    movie("10", "Rails (1996)", "09-Feb-1996", "Western"),
]


def folder(path: Path, ratings: list[str], movies: list[str] | None = MOVIES, people: list[str] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "u.data").write_text("".join(f"{line}\n" for line in ratings))
    if movies is not None:
        (path / "u.item").write_text("".join(f"{line}\n" for line in movies), encoding="latin-1")
    if people is not None:
        (path / "u.user").write_text("".join(f"{line}\n" for line in people))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_ratings_become_events_with_a_value(tmp_path: Path) -> None:
    import_movielens(folder(tmp_path / "ml", ["5\t1\t4\t881250949"]), tmp_path / "out")
    (event,) = rows_of(tmp_path / "out" / "events.parquet")
    assert (event["user_id"], event["item_id"], event["kind"], event["value"]) == ("5", "1", "rating", 4.0)
    assert event["at"] == datetime.fromtimestamp(881250949, UTC)


def test_ties_in_time_are_ordered_by_item_number(tmp_path: Path) -> None:
    ratings = ["5\t10\t4\t100", "5\t2\t4\t100", "5\t1\t4\t100", "5\t1\t4\t99"]
    import_movielens(folder(tmp_path / "ml", ratings), tmp_path / "out")
    events = rows_of(tmp_path / "out" / "events.parquet")
    assert [event["item_id"] for event in events] == ["1", "1", "2", "10"]
    assert [event["event_id"] for event in events] == ["row/4", "row/3", "row/2", "row/1"]


def test_movies_become_items(tmp_path: Path) -> None:
    report = import_movielens(folder(tmp_path / "ml", ["5\t1\t4\t100"]), tmp_path / "out")
    first, second, third = rows_of(tmp_path / "out" / "items.parquet")
    assert (first["title"], first["category"], first["tags"]) == ("Le Café (1922)", "Comedy", ["Comedy", "Drama"])
    assert first["published_at"] == datetime(1922, 1, 1, tzinfo=UTC)
    assert (second["category"], second["tags"], second["published_at"]) == (None, [], None)
    assert third["published_at"] == datetime(1996, 2, 9, tzinfo=UTC)
    assert report.tables["u.item"].noted == {"no release date": 1}


def test_plots_become_bodies(tmp_path: Path) -> None:
    plots = tmp_path / "plots.jsonl"
    lines = [
        json.dumps({"movie_id": 1, "plot": "Two meet."}),
        json.dumps({"movie_id": 1, "plot": "Again."}),
        json.dumps({"movie_id": 2, "plot": None}),
        "{broken",
        "[]",
        '{"movie_id": 10, "plot": "half \\ud800"}',
    ]
    plots.write_text("\n".join(lines))
    report = import_movielens(folder(tmp_path / "ml", ["5\t1\t4\t100"]), tmp_path / "out", plots=plots)
    assert [item["body"] for item in rows_of(tmp_path / "out" / "items.parquet")] == ["Two meet.", None, None]
    assert report.tables["plots.jsonl"].dropped == {
        "movie_id of an earlier row": 1,
        "no plot": 1,
        "not a JSON object with movie_id and plot": 3,
    }
    assert report.tables["u.item"].noted == {"no plot": 2, "no release date": 1}


def test_people_become_users(tmp_path: Path) -> None:
    source = folder(tmp_path / "ml", ["5\t1\t4\t100"], people=["5|24|F|librarian|01234"])
    import_movielens(source, tmp_path / "out")
    (user,) = rows_of(tmp_path / "out" / "users.parquet")
    assert (user["user_id"], user["segment"], user["age"], user["gender"], user["zip_code"]) == (
        "5",
        "librarian",
        24,
        "F",
        "01234",
    )


def test_missing_movies_and_people_are_noted(tmp_path: Path) -> None:
    report = import_movielens(folder(tmp_path / "ml", ["5\t1\t4\t100", "6\t2\t3\t50"], movies=None), tmp_path / "out")
    assert [item["item_id"] for item in rows_of(tmp_path / "out" / "items.parquet")] == ["1", "2"]
    assert not (tmp_path / "out" / "users.parquet").exists()
    assert any("u.item is missing" in what for what in report.tables["u.item"].noted)
    assert any("u.user is missing" in what for what in report.tables["u.user"].noted)


def test_unusable_ratings_are_dropped_by_reason(tmp_path: Path) -> None:
    ratings = [
        "5\t1\t4\t100",
        "5\t1\t4\t100",
        "5\t1\tgood\t101",
        "\t1\t4\t102",
        "5\t1\t4\tnoon",
        "5\t1\t4",
        "5\t7\t4\t1",
    ]
    report = import_movielens(folder(tmp_path / "ml", ratings), tmp_path / "out")
    count = report.tables["u.data"]
    assert (count.read, count.kept) == (7, 2)
    assert count.dropped == {
        "same as an earlier row": 1,
        "rating is not a number": 1,
        "user_id is missing (empty, null, none or nan)": 1,
        "at is missing or not a time": 1,
        "wrong number of columns": 1,
    }
    assert count.noted == {"item has no row in u.item": 1}


def test_missing_ratings_or_plots_are_bad_input(tmp_path: Path) -> None:
    source = folder(tmp_path / "ml", ["5\t1\t4\t100"])
    with pytest.raises(BadInput, match=r"no\.jsonl does not exist"):
        import_movielens(source, tmp_path / "out", plots=tmp_path / "no.jsonl")
    (source / "u.data").unlink()
    with pytest.raises(BadInput, match=r"u\.data does not exist"):
        import_movielens(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["ml"]


@given(*[st.lists(st.text(alphabet='12|\t-Jan9.{}:,"é\x00', max_size=50).map(str.encode) | st.binary(max_size=50))] * 4)
@settings(max_examples=30, deadline=None)
def test_any_bytes_give_a_report_that_adds_up_or_bad_input(
    tmp_path_factory: pytest.TempPathFactory,
    ratings: list[bytes],
    movies: list[bytes],
    people: list[bytes],
    plots: list[bytes],
) -> None:
    path = tmp_path_factory.mktemp("any")
    source = folder(path / "ml", ["5\t1\t4\t100"], people=["5|24|F|librarian|01234"])
    (source / "plots").write_text('{"movie_id": 1, "plot": "Two meet."}\n')
    for name, more in (("u.data", ratings), ("u.item", movies), ("u.user", people), ("plots", plots)):
        with (source / name).open("ab") as file:
            file.write(b"\n".join(more))
    try:
        report = import_movielens(source, path / "out", plots=source / "plots")
    except BadInput:
        assert not (path / "out").exists()
        return
    report.check()
    info = Dataset.open(path / "out").info
    assert (info.events, info.items) == (report.tables["u.data"].kept, report.tables["u.item"].kept)


def test_movielens_100k(evaluation_data: Path, tmp_path: Path) -> None:
    source = evaluation_data / "ml100k"
    report = import_movielens(source, tmp_path / "out", plots=source / "items_omdb.jsonl")
    kept = {name: count.kept for name, count in report.tables.items()}
    assert kept == {"u.data": 100_000, "u.item": 1682, "items_omdb.jsonl": 1671, "u.user": 943}
    assert Dataset.open(tmp_path / "out").info.users == 943
    last = pq.read_table(tmp_path / "out" / "events.parquet", columns=["user_id", "item_id", "at"]).to_pandas()
    last["number"] = last.item_id.astype(int)
    ties = last.groupby("user_id")["at"].transform("max") == last["at"]
    assert (last[ties].groupby("user_id").size() > 1).sum() == 415
    chosen = last.groupby("user_id").tail(1).set_index("user_id").number
    assert (chosen == last[ties].groupby("user_id").number.max().reindex(chosen.index)).all()
