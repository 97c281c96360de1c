"""Which events a retraining is made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.data.dataset import Dataset
from pipelines.data.draw import drawn_places
from pipelines.data.schema import POSITIVE_KINDS
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.prepare import prepare
from pipelines.recipe import Recipe
from pipelines.retraining.recent import FRESH, HISTORY, LATER, REPLAYED, Recent, write_recent

NOW = datetime(2025, 2, 4, 12, tzinfo=UTC)
EXAMPLES = "impressions", "interactions"


def recipe(**retraining: float) -> Recipe:
    return Recipe.model_validate({"retraining": {"days": 1.0, "replay": 0.5, **retraining}, "training": {"seed": 5}})


def written(
    dataset: Path, out: Path, wanted: Recipe, until: datetime | None = None, whole: bool = False
) -> tuple[Recent, Dataset]:
    given = {"now": NOW, "trained_until": until, "whole_slates": whole}
    found = write_recent(Dataset.open(dataset), out, recipe=wanted, **given)
    return found, Dataset.open(out)


@pytest.mark.parametrize("replay", [0.0, 0.3, 1.0, 100.0])
def test_every_row_is_accounted_for(dataset_folder: Path, tmp_path: Path, replay: float) -> None:
    wanted = recipe(replay=replay)
    found, dataset = written(dataset_folder, tmp_path / "data", wanted)
    rows = pq.read_table(dataset_folder / "events.parquet").to_pylist()
    assert sum(found.kept.values()) + sum(found.left_out.values()) == len(rows)
    kept = {row["event_id"] for row in pq.read_table(dataset.events).to_pylist()}
    assert len(kept) == dataset.info.events == sum(found.kept.values())
    since = NOW - timedelta(days=1)
    active = {row["user_id"] for row in rows if row["at"] >= since and row["at"] <= NOW}
    ids = sorted({row["user_id"] for row in rows})
    places = dict(zip(ids, drawn_places(ids, 5), strict=True))
    for row in rows:
        drawn = places[row["user_id"]] < found.moments.replay
        history = row["user_id"] in active and row["kind"] in POSITIVE_KINDS
        wanted_row = row["at"] <= NOW and (row["at"] >= since or drawn or history)
        assert (row["event_id"] in kept) == wanted_row
    assert found.examples["replayed"] <= replay * found.examples["fresh"]
    if replay == 100:
        assert found.moments.replay == 1.0
        assert found.kept[HISTORY] == 0


def test_click_rates_count_whole_slates_which_are_no_examples(dataset_folder: Path, tmp_path: Path) -> None:
    plain, _ = written(dataset_folder, tmp_path / "plain", recipe())
    found, dataset = written(dataset_folder, tmp_path / "whole", recipe(), whole=True)
    assert (found.moments, found.examples) == (plain.moments, plain.examples)
    assert found.kept[HISTORY] > plain.kept[HISTORY]
    rows = pq.read_table(dataset.events).to_pylist()
    shown = {(row["request_id"], row["item_id"]) for row in rows if row["kind"] == "impression"}
    assert all((row["request_id"], row["item_id"]) in shown for row in rows if row["kind"] == "click")
    split = {"by": "moments", "moments": found.moments.model_dump()}
    data = prepare(dataset, recipe().changed({"data.split": split, "features.text": None}))
    old = data.behaviour.requests.at < found.moments.since
    assert (data.parts.requests[old] == Part.TRAIN).sum() == found.examples["replayed"]
    assert (data.parts.requests[old] == Part.UNUSED).any()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_training_is_on_what_is_fresh_or_replayed_and_histories_are_whole(
    dataset_folder: Path, tmp_path: Path, examples: str
) -> None:
    wanted = recipe().changed({"data.examples": examples, "features.text": None})
    found, dataset = written(dataset_folder, tmp_path / "data", wanted)
    split = {"by": "moments", "moments": found.moments.model_dump()}
    data = prepare(dataset, wanted.changed({"data.split": split}))
    log, requests = data.behaviour.interactions, data.behaviour.requests
    unit, at, user = (
        (data.parts.requests, requests.at, requests.user)
        if examples == "impressions"
        else (data.parts.interactions, log.at, log.user)
    )
    moments = found.moments
    drawn = drawn_places(log.user_ids, 5) < moments.replay
    np.testing.assert_array_equal(unit == Part.TEST, at >= moments.test)
    np.testing.assert_array_equal(unit == Part.VALIDATION, (at >= moments.validation) & (at < moments.test))
    np.testing.assert_array_equal(unit == Part.UNUSED, (at < moments.since) & ~drawn[user])
    assert (unit == Part.TEST).sum() == found.examples["in the newest window"]
    assert (at >= moments.since).sum() == found.examples["fresh"]
    assert ((at < moments.since) & drawn[user]).sum() == found.examples["replayed"]
    assert 0 < found.examples["replayed"] <= 0.5 * found.examples["fresh"]
    # Whoever is active has the history that serving would see.
    whole = prepare(Dataset.open(dataset_folder), wanted).behaviour.interactions
    count = {name: int((whole.user == place).sum()) for place, name in enumerate(whole.user_ids)}
    late = {
        name: int((whole.at[whole.user == place] > NOW.timestamp()).sum()) for place, name in enumerate(whole.user_ids)
    }
    for place in np.unique(log.user[log.at >= moments.since]):
        name = log.user_ids[place]
        assert (log.user == place).sum() == count[name] - late[name]


def test_the_newest_window_is_later_than_what_the_champion_saw(dataset_folder: Path, tmp_path: Path) -> None:
    by_share, _ = written(dataset_folder, tmp_path / "a", recipe(window=0.5))
    until = NOW - timedelta(hours=3)
    later, _ = written(dataset_folder, tmp_path / "b", recipe(window=0.5), until)
    assert by_share.moments.test is not None
    assert later.moments.test == int(until.timestamp()) + 1 > by_share.moments.test
    with pytest.raises(BadInput, match="nothing later than what the champion was trained on"):
        written(dataset_folder, tmp_path / "c", recipe(), NOW)
    assert not (tmp_path / "c").exists()


def test_now_is_an_argument(dataset_folder: Path, tmp_path: Path) -> None:
    early = NOW - timedelta(days=1.5)
    found = write_recent(
        Dataset.open(dataset_folder), tmp_path / "data", recipe=recipe(), now=early, trained_until=None
    )
    assert found.left_out[LATER] > 0
    assert pq.read_table(tmp_path / "data" / "events.parquet")["at"][-1].as_py() <= early
    with pytest.raises(BadInput, match="0 example"):
        written_at = early + timedelta(days=900)
        write_recent(Dataset.open(dataset_folder), tmp_path / "x", recipe=recipe(), now=written_at, trained_until=None)


def test_the_same_inputs_are_the_same_dataset(dataset_folder: Path, tmp_path: Path) -> None:
    one, two = (written(dataset_folder, tmp_path / name, recipe()) for name in ("one", "two"))
    assert one[0] == two[0]
    assert one[1].fingerprint() == two[1].fingerprint()
    assert one[0].kept[FRESH] > 0 < one[0].kept[REPLAYED]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=5), unique=True, max_size=50), st.integers(0, 2**40))
def test_a_draw_depends_on_the_id_alone(ids: list[str], seed: int) -> None:
    places = drawn_places(ids, seed)
    np.testing.assert_array_equal(places[::-1], drawn_places(ids[::-1], seed))
    assert ((places >= 0) & (places < 1)).all()


def test_a_draw_is_uniform() -> None:
    places = drawn_places([f"u{number}" for number in range(20_000)], 1)
    assert abs((places < 0.3).mean() - 0.3) < 0.02
    assert np.corrcoef(places, drawn_places([f"u{number}" for number in range(20_000)], 2))[0, 1] < 0.05
