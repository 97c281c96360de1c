"""Reading delimited text: every record is whole or counted as broken, whatever the bytes."""

import codecs
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data import delimited
from pipelines.data.delimited import read_csv, read_plain
from pipelines.data.report import TableCount
from pipelines.errors import BadInput


def csv_rows(folder: Path, content: bytes) -> tuple[list[str], list[list[str]], TableCount]:
    source, raw, count = folder / "in.csv", folder / "raw.parquet", TableCount()
    source.write_bytes(content)
    header = read_csv(source, raw, count)
    table = pq.read_table(raw).to_pylist()
    return header, [[row[f"c{index}"] for index in range(len(header))] for row in table], count


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_usual_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    content = "a,b,c\n1,2,3\n4,5,6\n".replace(",", delimiter)
    header, rows, count = csv_rows(tmp_path, content.encode())
    assert header == ["a", "b", "c"]
    assert rows == [["1", "2", "3"], ["4", "5", "6"]]
    assert count.dropped.total() == 0


def test_quoted_fields_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    _, rows, count = csv_rows(tmp_path, b'a,b\n"x,\ny","say ""hi"""\n1,2\n')
    assert rows == [["x,\ny", 'say "hi"'], ["1", "2"]]
    assert count.dropped.total() == 0


def test_line_ends_of_all_systems_may_be_mixed(tmp_path: Path) -> None:
    _, rows, _ = csv_rows(tmp_path, b"a,b\r\n1,2\n3,4\r5,6")
    assert rows == [["1", "2"], ["3", "4"], ["5", "6"]]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")],
)
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, mark: bytes, encoding: str) -> None:
    header, rows, _ = csv_rows(tmp_path, mark + "a,b\né,2\n".encode(encoding))
    assert (header, rows) == (["a", "b"], [["é", "2"]])


def test_broken_records_are_counted_by_reason(tmp_path: Path) -> None:
    _, rows, count = csv_rows(tmp_path, b"a,b\n1,2\n3\n\n4,5,6\n7,8\n")
    assert rows == [["1", "2"], ["7", "8"]]
    assert count.dropped == {delimited.WRONG_WIDTH: 2, delimited.EMPTY_LINE: 1}
    assert count.read == 3  # the whole ones are counted when they are cleaned


def test_a_quote_that_is_never_closed_costs_one_line_only(tmp_path: Path) -> None:
    _, rows, count = csv_rows(tmp_path, b'a,b\n1,2\n3,"oops\n' + b"5,6\n" * 3000)
    assert rows == [["1", "2"], *[["5", "6"]] * 3000]
    assert count.dropped == {delimited.TOO_LONG: 1}


def test_a_stray_quote_that_meets_another_costs_its_own_line_only(tmp_path: Path) -> None:
    _, rows, count = csv_rows(tmp_path, b'a,b\n"oops,2\n3,4\n5,"x"\n7,8\n')
    assert ["3", "4"] in rows
    assert ["7", "8"] in rows
    assert count.dropped.total() == 1


def test_a_huge_field_is_dropped_and_the_next_row_is_kept(tmp_path: Path) -> None:
    _, rows, count = csv_rows(tmp_path, b"a,b\n1," + b"x" * 200_000 + b"\n3,4\n")
    assert rows == [["3", "4"]]
    assert count.dropped == {delimited.TOO_LONG: 1}


def test_bytes_that_are_not_utf8_are_replaced_and_flagged(tmp_path: Path) -> None:
    source, raw = tmp_path / "in.csv", tmp_path / "raw.parquet"
    source.write_bytes("a,b\n1,é\n2,é\n".encode() + b"3,caf\xe9\n")
    read_csv(source, raw, TableCount())
    table = pq.read_table(raw).to_pydict()
    assert table["c1"] == ["é", "é", "caf\ufffd"]
    assert table[delimited.MENDED] == [False, False, True]
    assert table[delimited.ROW] == [1, 2, 3]


def test_a_plain_file_breaks_lines_at_line_feeds_only(tmp_path: Path) -> None:
    source, raw, count = tmp_path / "in.tsv", tmp_path / "raw.parquet", TableCount()
    source.write_bytes('1\tsays "a\u2028b\n2\tc\r\n3\n'.encode())
    read_plain(source, ("id", "title"), raw, count, delimiter="\t")
    assert pq.read_table(raw).to_pydict()["title"] == ['says "a\u2028b', "c"]
    assert count.dropped == {delimited.WRONG_WIDTH: 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (codecs.BOM_UTF16_LE, "is empty"),
        (b"\x89PNG\0\0", "is not a text file"),
        (b'a,"b\n1,2\n3,4"\n', "the header line has a quote"),
        (b"a," + b"b" * 200_000 + b"\n1,2\n", "is too long"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        csv_rows(tmp_path, content)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        read_csv(tmp_path / "no.csv", tmp_path / "raw.parquet", TableCount())
    with pytest.raises(BadInput, match="is a folder"):
        read_csv(tmp_path, tmp_path / "raw.parquet", TableCount())


@given(st.binary(max_size=400) | st.text(alphabet='a,"\n\r\té', max_size=80).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_whole_records_or_bad_input(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        header, rows, count = csv_rows(folder, content)
    except BadInput:
        return
    assert all(len(row) == len(header) for row in rows)
    # Every line after the header is in a record: as itself, in a quoted field, or as a broken one.
    assert len(rows) + count.dropped.total() <= len(content.splitlines()) + content.count(b"\r") + content.count(b"\0")
