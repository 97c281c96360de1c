"""Importing any CSV or Parquet file."""

import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.dataset import Dataset
from pipelines.data.sources.table import import_table
from pipelines.errors import BadInput

PNG = b"\x89PNG\r\n\x1a\n" + b"rest"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def events_of(folder: Path) -> list[dict[str, Any]]:
    return rows_of(folder / "events.parquet")


def items_of(folder: Path) -> list[dict[str, Any]]:
    return rows_of(folder / "items.parquet")


def test_columns_of_our_names_are_found_and_others_are_mapped(tmp_path: Path) -> None:
    content = "visitor,item_id,ts,kind,dwell_seconds\nu1,a,2024-05-01T10:00:00Z,Read,12.5\n"
    import_table(write(tmp_path / "e.csv", content), tmp_path / "out", columns={"user_id": "visitor", "at": "ts"})
    (event,) = events_of(tmp_path / "out")
    assert (event["user_id"], event["item_id"], event["kind"], event["dwell_seconds"]) == ("u1", "a", "read", 12.5)
    assert event["at"] == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert Dataset.open(tmp_path / "out").info.clock == "utc"


@pytest.mark.parametrize(
    "moment",
    [
        "2024-05-01 10:00:00",
        "2024-05-01T10:00:00Z",
        "2024-05-01T12:00:00+02:00",
        "1714557600",
        "1714557600000",
        "1.7145576e9",
    ],
)
def test_a_time_may_be_written_in_many_ways(tmp_path: Path, moment: str) -> None:
    import_table(write(tmp_path / "e.csv", f"user_id,item_id,at\nu,a,{moment}\n"), tmp_path / "out")
    assert events_of(tmp_path / "out")[0]["at"] == datetime(2024, 5, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "moments",
    [
        pa.array([1714557600], pa.int64()),
        pa.array([1714557600000], pa.int64()),
        pa.array([1714557600.0], pa.float64()),
        pa.array(["2024-05-01T10:00:00"]),
        *[pa.array([datetime(2024, 5, 1, 10)], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")],
        pa.array([datetime(2024, 5, 1, 10, tzinfo=UTC)], pa.timestamp("ns", tz="Europe/Paris")),
    ],
)
def test_a_time_in_parquet_may_be_of_many_types(tmp_path: Path, moments: pa.Array) -> None:
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "at": moments}), tmp_path / "e.parquet")
    import_table(tmp_path / "e.parquet", tmp_path / "out")
    assert events_of(tmp_path / "out")[0]["at"] == datetime(2024, 5, 1, 10, tzinfo=UTC)


def test_without_a_time_the_order_of_the_rows_is_the_clock(tmp_path: Path) -> None:
    report = import_table(write(tmp_path / "e.csv", "user_id,item_id\nu,b\nu,a\nu,b\n"), tmp_path / "out")
    events = events_of(tmp_path / "out")
    assert [(event["item_id"], event["at"].timestamp()) for event in events] == [("b", 1), ("a", 2), ("b", 3)]
    assert Dataset.open(tmp_path / "out").info.clock == "row order"
    assert report.tables["events (e.csv)"].noted == {
        "no column for at: the order of the rows is the clock": 3,
        "same as an earlier row, which without a time may be a second visit": 1,
    }


def test_ids_stay_as_the_source_wrote_them(tmp_path: Path) -> None:
    content = 'user_id,item_id\n007,1430.0\n" x ",1e5\n'
    import_table(write(tmp_path / "e.csv", content), tmp_path / "out")
    found = [(event["user_id"], event["item_id"]) for event in events_of(tmp_path / "out")]
    assert found == [("007", "1430.0"), (" x ", "1e5")]


def test_items_file_is_spelt_as_the_events_spell_it(tmp_path: Path) -> None:
    events = write(tmp_path / "e.csv", "user_id,item_id\nu,1430.0\n")
    items = write(tmp_path / "i.csv", "item_id,title\n1430,A\n1431,B\n")
    report = import_table(events, tmp_path / "out", items=items)
    assert [item["item_id"] for item in items_of(tmp_path / "out")] == ["1430.0", "1431.0"]
    assert report.tables["items (i.csv)"].noted == {"item_id spelt as the events spell it (1430 and 1430.0)": 2}
    assert "item has no row in the items file" not in report.tables["events (e.csv)"].noted
    events.write_text("user_id,item_id\nu,1430\n")
    items.write_text("item_id,title\n1430.0,A\n")
    import_table(events, tmp_path / "out", items=items)
    assert [item["item_id"] for item in items_of(tmp_path / "out")] == ["1430"]


def test_items_are_built_from_events_where_there_is_no_items_file(tmp_path: Path) -> None:
    content = 'user_id,item_id,headline,category\nu,b,,news\nu,a,"Two\nlines",\nv,b,Late title,sport\n'
    report = import_table(write(tmp_path / "e.csv", content), tmp_path / "out", columns={"title": "headline"})
    found = [(item["item_id"], item["title"], item["category"]) for item in items_of(tmp_path / "out")]
    assert found == [("b", "Late title", "news"), ("a", "Two\nlines", None)]
    assert report.tables["items (from e.csv)"].kept == 2


def test_item_columns_are_read_in_every_form(tmp_path: Path) -> None:
    events = write(tmp_path / "e.csv", "user_id,item_id\nu,a\nu,z\n")
    content = (
        "item_id,title,tags,published_at,language\n"
        "a,One,x|y; z,1714557600,de\n"
        "b,Two,\"['p', 'q']\",soon,\n"
        "a,Again,,,\n"
        ",Nobody,,,\n"
    )
    report = import_table(events, tmp_path / "out", items=write(tmp_path / "i.csv", content), language="en")
    first, second = items_of(tmp_path / "out")
    assert (first["tags"], first["language"], first["title"]) == (["x", "y", "z"], "de", "One")
    assert first["published_at"] == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert (second["tags"], second["language"], second["published_at"]) == (["p", "q"], "en", None)
    count = report.tables["items (i.csv)"]
    assert count.dropped == {"item_id of an earlier row": 1, "item_id is missing (empty, null, none or nan)": 1}
    assert count.noted == {"published_at is not a time; set to null": 1}
    assert report.tables["events (e.csv)"].noted["item has no row in the items file"] == 1


def test_tags_may_be_a_list(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u"], "item_id": ["a"], "tags": [["x, y", "", None, "z"]]})
    pq.write_table(table, tmp_path / "e.parquet")
    import_table(tmp_path / "e.parquet", tmp_path / "out")
    assert items_of(tmp_path / "out")[0]["tags"] == ["x, y", "z"]


def test_images_are_read_beside_the_items_file(tmp_path: Path) -> None:
    (tmp_path / "shop" / "pictures").mkdir(parents=True)
    write(tmp_path / "shop" / "pictures" / "a.png", PNG)
    write(tmp_path / "shop" / "text.png", b"no image")
    write(tmp_path / "outside.png", PNG)
    names = ["pictures/a.png", "missing.png", "text.png", "../outside.png", "https://example.org/x.png", ""]
    content = "item_id,image\n" + "".join(f"{index},{name}\n" for index, name in enumerate(names))
    items = write(tmp_path / "shop" / "items.csv", content)
    events = write(tmp_path / "e.csv", "user_id,item_id\nu,0\n")
    report = import_table(events, tmp_path / "out", items=items)
    assert [item["image"] for item in items_of(tmp_path / "out")] == [PNG, None, None, None, None, None]
    noted = {what: rows for what, rows in report.tables["items (items.csv)"].noted.items() if "image" in what}
    assert noted == {
        "image file is missing or unreadable": 1,
        "image is neither JPEG nor PNG; left out": 1,
        "image path leads out of the folder of the items file; left out": 1,
        "image is a URL, which is not fetched": 1,
    }


@pytest.mark.parametrize("images", [pa.array([PNG, b"no", None]), pa.array([{"bytes": PNG}, {"bytes": b"no"}, None])])
def test_images_may_be_bytes(tmp_path: Path, images: pa.Array) -> None:
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "image": images}), tmp_path / "i.parquet")
    events = write(tmp_path / "e.csv", "user_id,item_id\nu,a\n")
    import_table(events, tmp_path / "out", items=tmp_path / "i.parquet")
    assert [item["image"] for item in items_of(tmp_path / "out")] == [PNG, None, None]


def test_users_keep_free_columns(tmp_path: Path) -> None:
    events = write(tmp_path / "e.csv", "user_id,item_id\nu,a\n")
    users = write(tmp_path / "u.csv", ",user_id,plan,Plan,segment\n0,u,gold,x,students\n1,u,tin,x,\n")
    report = import_table(events, tmp_path / "out", users=users)
    (user,) = rows_of(tmp_path / "out" / "users.parquet")
    assert user == {
        "user_id": "u",
        "language": None,
        "segment": "students",
        "created_at": None,
        "plan": "gold",
    }
    assert report.tables["users (u.csv)"].noted == {"column Plan is left out, since its name is taken": 1}


def test_unusable_rows_are_dropped_and_numbers_mended_by_reason(tmp_path: Path) -> None:
    content = (
        b"user_id,item_id,at,kind,scroll_depth,dwell_seconds,position\n"
        b"u,a,2024-01-01,click,0.5,3,0\n"
        b"u,a,2024-01-01,click,0.5,3,0\n"
        b"u,b,2024-01-01,purchase,,,\n"
        b"u,,2024-01-01,click,,,\n"
        b"nan,a,2024-01-01,click,,,\n"
        b"u\xff,a,2024-01-01,click,,,\n"
        b"u,a,tomorrow,click,,,\n"
        b"u,a,2031-01-01,click,,,\n"
        b"u,c,2024-01-01,read,1.5,-3,1.5\n"
        b"u,d,2024-01-01,like,deep,nan,\n"
        b"u,a\n"
    )
    report = import_table(write(tmp_path / "e.csv", content), tmp_path / "out", now=datetime(2030, 1, 1))
    count = report.tables["events (e.csv)"]
    assert (count.read, count.kept) == (11, 3)
    assert count.dropped == {
        "same as an earlier row": 1,
        "kind is not one of impression, click, read, like, share, save, dislike, rating": 1,
        "item_id is missing (empty, null, none or nan)": 1,
        "user_id is missing (empty, null, none or nan)": 1,
        "user_id holds bytes or control characters that are not text": 1,
        "at is missing or not a time": 1,
        "at is later than now": 1,
        "wrong number of columns": 1,
    }
    assert count.noted == {
        "scroll_depth must be from 0 to 1; set to null": 2,
        "dwell_seconds must be from 0 and finite; set to null": 1,
        "position must be a whole number from 0; set to null": 1,
    }
    assert [event["scroll_depth"] for event in events_of(tmp_path / "out")] == [0.5, None, None]


def test_a_device_may_be_mapped_and_blank_is_unknown(tmp_path: Path) -> None:
    content = "user_id,item_id,at,platform\nu,a,100,mobile\nu,b,101,\nu,c,102,42\n"
    import_table(write(tmp_path / "e.csv", content), tmp_path / "out", columns={"device": "platform"})
    assert [event["device"] for event in events_of(tmp_path / "out")] == ["mobile", None, "42"]


def test_a_repeated_event_id_keeps_the_first_row(tmp_path: Path) -> None:
    content = "event_id,user_id,item_id,at\n1,u,a,100\n1,u,b,101\n,u,c,102\n2,u,a,100\n"
    report = import_table(write(tmp_path / "e.csv", content), tmp_path / "out")
    found = [(event["event_id"], event["item_id"]) for event in events_of(tmp_path / "out")]
    assert found == [("1", "a"), ("2", "a"), ("row/3", "c")]
    assert report.tables["events (e.csv)"].dropped == {"event_id of an earlier row": 1}


def test_titles_that_are_not_utf8_are_mended_and_noted(tmp_path: Path) -> None:
    report = import_table(write(tmp_path / "e.csv", b"user_id,item_id,title\nu,a,caf\xe9\n"), tmp_path / "out")
    assert items_of(tmp_path / "out")[0]["title"] == "caf\ufffd"
    assert report.tables["events (e.csv)"].noted["bytes that are not UTF-8, replaced"] == 1


def test_parquet_text_that_is_not_utf8_is_mended_too(tmp_path: Path) -> None:
    titles = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"]).buffers())
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"], "title": titles}), tmp_path / "e.parquet")
    import_table(tmp_path / "e.parquet", tmp_path / "out")
    assert items_of(tmp_path / "out")[0]["title"] == "caf\ufffd"


def test_events_are_sorted_by_time_then_source_order(tmp_path: Path) -> None:
    content = "user_id,item_id,at\n" + "".join(f"u{row},a,{row % 3}\n" for row in range(3000))
    import_table(write(tmp_path / "e.csv", content), tmp_path / "out")
    found = [event["event_id"] for event in events_of(tmp_path / "out")]
    assert found == [f"row/{row + 1}" for time in range(3) for row in range(time, 3000, 3)]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    content = "user_id,item_id,at,title\n" + "".join(
        f"u{row % 97},{row % 53},{row % 7},T{row % 3}\n" for row in range(20_000)
    )
    events = write(tmp_path / "e.csv", content)
    for name in ("one", "two"):
        import_table(events, tmp_path / name, name="same")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["dataset.json", "events.parquet", "items.parquet"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", {}, "is empty"),
        (b"\x00\x01\x02", {}, "is not a text file"),
        (b"PAR1 but not for long", {}, "is not a readable Parquet file"),
        (
            b"who,what\nu,a\n",
            {},
            r"has no column user_id \(it has: who, what\): name the right one with --map user_id=",
        ),
        (b"user_id,item_id\nu,a\n", {"columns": {"at": "when"}}, r"--map at=when: .* has no column when"),
        (b"user_id,item_id\nu,a\n", {"columns": {"user": "user_id"}}, "there is no user to map to"),
        (b"user_id,item_id\nu,a\n", {"kind": "purchase"}, "is not a kind of event"),
        (b"user_id,item_id\n", {}, "Not one usable event is left"),
        (b"user_id,item_id\n,\n", {}, "user_id is missing"),
    ],
)
def test_unusable_input_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, content: bytes, arguments: dict[str, Any], message: str
) -> None:
    events = write(tmp_path / "e.csv", content)
    with pytest.raises(BadInput, match=message) as caught:
        import_table(events, tmp_path / "out", **arguments)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["e.csv"]


def test_a_broken_parquet_file_is_bad_input(tmp_path: Path) -> None:
    rows = pa.table({"user_id": [f"u{row}" for row in range(5000)], "item_id": [f"i{row}" for row in range(5000)]})
    pq.write_table(rows, tmp_path / "e.parquet", use_dictionary=False)
    content = bytearray((tmp_path / "e.parquet").read_bytes())
    content[200:4000] = b"\xff" * 3800
    write(tmp_path / "e.parquet", bytes(content))
    with pytest.raises(BadInput, match="is not a readable Parquet file"):
        import_table(tmp_path / "e.parquet", tmp_path / "out")


def test_a_list_cannot_be_an_id(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [["u"]], "item_id": ["a"]}), tmp_path / "e.parquet")
    with pytest.raises(BadInput, match="column user_id is a list"):
        import_table(tmp_path / "e.parquet", tmp_path / "out")


CELL = st.text(alphabet='u1.0"\n,-:T2é\x00\t ', max_size=8)
HEADER = b"user_id,item_id,at,kind,title,tags,scroll_depth\nu,a,100,click,A,x,0.5\n"


@given(
    st.lists(st.lists(CELL, min_size=6, max_size=8).map(lambda row: ",".join(row).encode()) | st.binary(max_size=40))
)
@settings(max_examples=40, deadline=None)
def test_any_bytes_give_a_report_that_adds_up_or_bad_input(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("any")
    events = write(path / "e.csv", HEADER + b"\n".join(rows))
    try:
        report = import_table(events, path / "out")
    except BadInput:
        assert not (path / "out").exists()
        return
    report.check()
    info = Dataset.open(path / "out").info
    assert info.events == report.tables["events (e.csv)"].kept
    assert info.items == report.tables["items (from e.csv)"].kept


def test_ibm_articles(evaluation_data: Path, tmp_path: Path) -> None:
    source = evaluation_data / "ibm-articles" / "interactions.csv"
    report = import_table(source, tmp_path / "out", columns={"item_id": "article_id"})
    count = report.tables["events (interactions.csv)"]
    assert (count.read, count.kept) == (43_905, 43_905)
    info = Dataset.open(tmp_path / "out").info
    assert (info.items, info.users, info.clock) == (713, 5149, "row order")
    assert sum("\n" in (item["title"] or "") for item in items_of(tmp_path / "out")) == 14
    assert events_of(tmp_path / "out")[0]["item_id"] == "1430.0"


def test_globo(evaluation_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    report = import_table(evaluation_data / "globo" / "clicks.parquet", tmp_path / "out")
    seconds, megabytes = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with capsys.disabled():
        print(f"\n2,091,722 clicks imported in {seconds:.1f} s; the process's peak is {megabytes:,.0f} MB")
    assert report.tables["events (clicks.parquet)"].kept == 2_091_722
    info = Dataset.open(tmp_path / "out").info
    assert (info.items, info.users) == (32_475, 274_107)
