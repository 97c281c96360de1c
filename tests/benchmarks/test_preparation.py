"""The made-up log, and that both ways find the same in it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.preparation.run import compare
from benchmarks.preparation.synthetic import write_dataset
from pipelines.data.dataset import Dataset


# Few items, so that slates repeat some; and many users, so that some have clicked on nothing.
@pytest.mark.parametrize("users", [50, 3_000])
def test_both_ways_find_the_same(users: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "log", events=4_000, items=30, users=users)
    assert compare(tmp_path / "log") == 0
    assert "the same counts, and the same for" in capsys.readouterr().out


def test_a_log_made_in_chunks_is_in_order_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_dataset(tmp_path / name, events=20_000, items=30, users=50, chunk=5_000)
    one, two = (pq.read_table(tmp_path / name / "events.parquet") for name in ("one", "two"))
    assert one.equals(two)
    assert abs(len(one) - 20_000) < 500
    at = one["at"].to_pylist()
    assert at == sorted(at)
    assert len(set(one["event_id"].to_pylist())) == len(one)
    clicks, shown = (one.filter(pc.equal(one["kind"], kind)) for kind in ("click", "impression"))
    assert shown["request_id"].null_count == 0 < clicks["request_id"].null_count < len(clicks)
    assert Dataset.open(tmp_path / "one").info.events == len(one)
