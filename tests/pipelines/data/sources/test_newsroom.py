"""The newsroom as a dataset: complete, the same every time, and what its report and its truth say."""

import itertools
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.data.dataset import Dataset
from pipelines.data.sources.newsroom import Newsroom, NewsroomSize, import_newsroom
from pipelines.data.sources.newsroom.language import LANGUAGES, language, topics
from pipelines.data.sources.newsroom.simulation import READ_SECONDS
from pipelines.errors import BadInput

TINY = NewsroomSize(articles=300, users=120, days=3, requests=600)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("newsroom") / "tiny"
    import_newsroom(TINY, folder, seed=3)
    return Dataset.open(folder)


def test_the_report_and_the_description_count_every_row(tmp_path: Path) -> None:
    report = import_newsroom(TINY, tmp_path / "news", seed=3)
    info = Dataset.open(tmp_path / "news").info
    assert info.report == report.as_dict()
    assert {name: table.dropped.total() for name, table in report.tables.items()} == {
        "events": 0,
        "items": 0,
        "users": 0,
    }
    assert not any(table.noted for table in report.tables.values())
    assert (info.name, info.items, info.languages) == ("news", 300, ["de", "en", "es", "fr"])
    assert report.tables["events"].kept == info.events
    assert report.tables["users"].kept == 120
    assert "seed 3" in info.source


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny: Dataset, tmp_path: Path) -> None:
    import_newsroom(TINY, tmp_path / "again", seed=3)
    import_newsroom(TINY, tmp_path / "other", seed=4)
    for name in ("items.parquet", "events.parquet", "users.parquet", "truth.parquet"):
        first = (tiny.folder / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == first, name
        assert (tmp_path / "other" / name).read_bytes() != first, name


def test_an_unknown_size_is_one_sentence_that_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^'huge' is not a size of the newsroom: choose small, medium, large\.$"):
        import_newsroom("huge", tmp_path / "out")
    with pytest.raises(BadInput, match="seed must be 0 or more"):
        import_newsroom("small", tmp_path / "out", seed=-1)
    with pytest.raises(BadInput, match="needs 250 articles"):
        NewsroomSize(articles=10, users=1, days=1, requests=1)
    assert list(tmp_path.iterdir()) == []


def test_every_request_shows_ten_different_items_at_ten_positions(tiny: Dataset) -> None:
    shown = pq.read_table(tiny.events, filters=[("kind", "=", "impression")]).to_pandas()
    requests = shown.groupby("request_id")
    assert (requests["position"].apply(sorted).map(tuple) == tuple(range(10))).all()
    assert (requests["item_id"].nunique() == 10).all()
    assert (requests["user_id"].nunique() == 1).all()
    assert (requests["at"].nunique() == 1).all()
    assert shown["propensity"].between(0, 1).all()
    assert shown["dwell_seconds"].isna().all()


def test_events_follow_each_other(tiny: Dataset) -> None:
    events = pq.read_table(tiny.events).to_pandas()
    assert events["event_id"].is_unique
    assert events["at"].is_monotonic_increasing
    assert events["at"].max() < datetime(2025, 3, 14, tzinfo=UTC)
    assert set(events["kind"]) == {"impression", "click", "read", "like", "share"}
    keys = ["request_id", "item_id", "user_id", "position"]
    by_kind = {kind: rows.set_index(keys) for kind, rows in events.groupby("kind")}
    click = by_kind["click"]
    assert click.index.is_unique
    assert (click["at"] > by_kind["impression"].loc[click.index, "at"]).all()
    assert click["dwell_seconds"].gt(0).all()
    assert click["scroll_depth"].between(0, 1).all()
    assert by_kind["read"].index.isin(click.index).all()
    assert by_kind["read"]["dwell_seconds"].min() >= READ_SECONDS
    assert by_kind["like"].index.isin(by_kind["read"].index).all()
    assert by_kind["share"].index.isin(by_kind["read"].index).all()


def test_a_reader_s_segment_is_their_device(tiny: Dataset) -> None:
    assert tiny.users is not None
    segment = pq.read_table(tiny.users).to_pandas().set_index("user_id")["segment"]
    events = pq.read_table(tiny.events).to_pandas()
    assert (events["device"] == segment.loc[events["user_id"]].to_numpy()).all()
    assert set(events["device"]) == {"mobile", "desktop", "tablet"}


def test_nobody_comes_before_they_join_and_nothing_is_shown_before_it_appears(tiny: Dataset) -> None:
    events = pq.read_table(tiny.events, filters=[("kind", "=", "impression")]).to_pandas()
    assert tiny.users is not None
    users = pq.read_table(tiny.users).to_pandas().set_index("user_id")
    items = pq.read_table(tiny.items, columns=["item_id", "published_at", "removed_at"]).to_pandas()
    items = items.set_index("item_id").loc[events["item_id"]].reset_index()
    assert (events["at"] >= users.loc[events["user_id"], "created_at"].to_numpy()).all()
    assert (events["at"] >= items["published_at"]).all()
    removed = items["removed_at"].notna()
    # The front page is made on the hour.
    assert (events["at"].dt.floor("h")[removed] < items["removed_at"][removed]).all()
    assert users["created_at"].max() > datetime(2025, 3, 12, tzinfo=UTC)


def test_the_truth_is_beside_the_events_and_agrees_with_the_newsroom(tiny: Dataset) -> None:
    truth = pq.read_table(tiny.folder / "truth.parquet")
    shown = pq.read_table(tiny.events, filters=[("kind", "=", "impression")])
    assert set(truth["event_id"].to_pylist()) == set(shown["event_id"].to_pylist())
    joined = truth.join(shown, "event_id", join_type="inner")
    newsroom = Newsroom.generate(TINY, seed=3)
    again = newsroom.click_probability(
        np.array(joined["user_id"].to_pylist(), dtype=object),
        np.array(joined["item_id"].to_pylist(), dtype=object),
        pc.cast(joined["at"], "int64").to_numpy() // 1_000_000,
        joined["position"].to_numpy(),
    )
    np.testing.assert_allclose(joined["click_probability"].to_numpy(), again, rtol=1e-5)


def test_titles_are_unique_and_texts_are_whole(tiny: Dataset) -> None:
    items = pq.read_table(tiny.items).to_pandas()
    assert items["title"].is_unique
    texts = items["title"] + items["body"]
    assert not texts.str.contains(r"[{}]|  | ,", regex=True).any()
    assert items["body"].str.split().str.len().between(15, 250).all()
    assert set(items["category"]) <= set(topics().names)
    assert items["tags"].map(len).eq(3).all()


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_fills_every_slot(code: str) -> None:
    slots = dict.fromkeys("pqszorckn", "X")
    for wording in language(code).wording:
        assert min(len(wording.titles), len(wording.things)) >= 5
        assert len(set(wording.sentences)) == len(wording.sentences) >= 3
        for text in (*wording.titles, *wording.tails, *wording.sentences, *wording.background):
            assert "{" not in text.format(**slots, t="Y")
        # What a story turns on is in most titles, and so is who or where.
        assert sum("{t}" in title for title in wording.titles) >= len(wording.titles) - 2
        named = [title for title in wording.titles if set("pqszorck") & {slot[0] for slot in title.split("{")[1:]}]
        assert len(named) >= len(wording.titles) - 2


def test_languages_do_not_share_words() -> None:
    for left, right in itertools.pairwise(LANGUAGES):
        pairs = zip(language(left).wording, language(right).wording, strict=True)
        assert all(not set(a.titles) & set(b.titles) for a, b in pairs)


def test_covers_decode_and_their_colour_tells_the_topic(tiny: Dataset) -> None:
    items = pq.read_table(tiny.items, columns=["image", "category"])
    pictures = [np.asarray(Image.open(BytesIO(image))) for image in items["image"].to_pylist()]
    assert {picture.shape for picture in pictures} == {(48, 48, 3)}
    colour = np.stack([picture.reshape(-1, 3).mean(axis=0) for picture in pictures])
    names, category = np.unique(items["category"].to_pylist(), return_inverse=True)
    half = np.arange(len(colour)) % 2 == 0
    centroids = np.stack([colour[half & (category == place)].mean(axis=0) for place in range(len(names))])
    nearest = ((colour[~half, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == category[~half]).mean() > 3 / len(names)
