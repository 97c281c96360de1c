from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.edge import recommender as module
from serving.edge.errors import BadBundle, BadRequest, NotFound
from serving.edge.journal import Journal
from serving.edge.recommender import EdgeRecommender
from tests.serving.edge.conftest import HISTORY, ITEMS, NOON, asked, events
from towers.recommender import Recommender
from towers.runtime import tf

CONTEXT = {"device": "mobile", "time_seconds": NOON}
HISTORIES = [
    [],
    ["i03"],
    ["i01", "no such item", "", "i02", "كتاب"],
    [f"i{number:02}" for number in range(15)],
    ["i05"] * 4,
    ["i10", "a/b c?"],
]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("language", ["en", "", "tlh"])
def test_recommendations_are_those_of_the_served_graph(
    pair: tuple[Recommender, Path], history: list[str], language: str
) -> None:
    served, folder = pair
    edge, excluded = EdgeRecommender(folder), ["i20", "nobody", "i21"]
    found = edge.recommend(events(history), language=language, exclude=excluded, **CONTEXT)
    expected = served.recommend(**asked(history, language, exclude_ids=excluded))
    assert [item for item, _ in found] == [item.decode() for item in expected["ids"].numpy()[0]]
    np.testing.assert_allclose([score for _, score in found], expected["scores"].numpy()[0], rtol=1e-4, atol=1e-4)
    user = edge.embed_user(events(history), language=language, **CONTEXT)
    np.testing.assert_allclose(user, served.embed_users(**asked(history, language))["embedding"][0], atol=1e-4)


def test_where_few_are_left_there_are_few(pair: tuple[Recommender, Path]) -> None:
    served, folder = pair
    hidden = [item for item in ITEMS if item not in ("i06", "i07", "i10", "i12")]
    found = EdgeRecommender(folder).recommend(exclude=hidden, **CONTEXT)
    expected = served.recommend(**asked([], "", exclude_ids=hidden))["ids"].numpy()[0]
    assert [item for item, _ in found] == [item.decode() for item in expected if item]
    assert EdgeRecommender(folder).recommend(exclude=ITEMS) == []


def test_among_equal_scores_the_smaller_id_comes_first(edge: EdgeRecommender) -> None:
    same = [row for row, item in enumerate(ITEMS) if row in (6, 7)]
    hidden = [item for row, item in enumerate(ITEMS) if row not in same]
    found = edge.recommend(exclude=hidden)
    assert [item for item, _ in found] == [ITEMS[6], ITEMS[7]]
    assert found[0][1] == found[1][1]


def test_candidates_are_ranked_as_by_the_served_graph(pair: tuple[Recommender, Path]) -> None:
    served, folder = pair
    candidates = ["i09", "no such item", "i10", "i00", "", *ITEMS[20:50]]  # more than the second stage takes at once
    found = EdgeRecommender(folder).rank(candidates, events(["i01", "i02"]), language="de", **CONTEXT)
    expected = served.rank(**asked(["i01", "i02"], "de", candidate_ids=candidates))
    assert [each.item for each in found] == candidates
    np.testing.assert_allclose([each.score for each in found], expected["scores"][0], rtol=1e-4, atol=1e-4)
    for task in expected.keys() - {"scores"}:
        np.testing.assert_allclose([each.probabilities[task] for each in found], expected[task][0], atol=1e-5)


ARTICLES = [
    {"title": "Störm closes the harbour", "body": "after a goal", "category": "weather", "tags": ["rain", "x", "rain"]},
    {"title": "", "body": "", "language": "en"},
    {"title": " \t", "body": "wine\x00 \U0001f377 书", "category": "tlh", "language": "de"},
    {"title": "bread " * 400},
]


@pytest.mark.parametrize("article", ARTICLES)
@pytest.mark.parametrize("item", ["", "i04", "new"])
def test_an_item_is_encoded_as_by_the_served_graph(pair: tuple[Recommender, Path], article: dict, item: str) -> None:
    served, folder = pair
    names = ("title", "body", "language", "category")
    asked_for = {name: tf.constant([article.get(name, "")]) for name in names}
    tags = article.get("tags", [])
    # In a graph, as it is served: outside of one, keras-hub has a tokeniser of its own, which reads on after a NUL.
    expected = tf.function(served.embed_items)(
        item_id=tf.constant([item]),
        image=tf.constant([""]),
        tags=tf.constant([tags], tf.string, (1, len(tags))),
        **asked_for,
    )
    found = EdgeRecommender(folder).embed_item(item, **article)
    np.testing.assert_allclose(found, expected["embedding"][0], atol=1e-4)


def test_an_added_article_is_recommended_at_once_by_its_content(bundles: list[Path]) -> None:
    edge = EdgeRecommender(bundles[0])
    user = edge.embed_user(events(["i01"]))
    edge.add_item("new", title="storm closes the harbour", category="weather", tags=["rain"])
    expected = float(edge.embed_item("new", title="storm closes the harbour", category="weather", tags=["rain"]) @ user)
    found = dict(edge.recommend(events(["i01"]), k=1000))
    assert found["new"] == pytest.approx(expected, abs=1e-4)
    assert len(edge) == len(found) + 1
    assert "new" not in dict(edge.recommend(events(["i01"]), exclude=["new"], k=1000))
    # It counts in histories as any other.
    assert np.abs(edge.embed_user(events(["new"])) - edge.embed_user([])).max() > 0.01


def test_an_article_of_the_bundle_can_be_replaced_removed_and_brought_back(bundles: list[Path]) -> None:
    edge = EdgeRecommender(bundles[0])
    before = dict(edge.recommend(k=1000))["i05"]
    edge.add_item("i05", title="wine recipe")
    once = [item for item, _ in edge.recommend(k=1000)].count("i05")
    assert once == 1
    assert dict(edge.recommend(k=1000))["i05"] != before
    edge.remove_item("i05")
    assert "i05" not in dict(edge.recommend(k=1000))
    assert np.abs(edge.embed_user(events(["i05"])) - edge.embed_user([])).max() > 0.01
    edge.add_item("i05", title="wine recipe")
    assert "i05" in dict(edge.recommend(k=1000))
    with pytest.raises(NotFound, match="no item"):
        edge.remove_item("never seen")


def test_changes_are_kept_over_restarts_without_encoding_again(bundles: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    edge = EdgeRecommender(bundles[0], Journal(path))
    edge.add_item("new", title="storm", tags=["rain"], published_at=NOON)
    edge.add_item("gone", title="wine")
    edge.remove_item("gone")
    edge.remove_item("i05")
    before, again = edge.recommend(k=1000), EdgeRecommender(bundles[0], Journal(path))
    assert again.recommend(k=1000) == before
    assert {"new"} <= set(dict(before))
    assert not {"gone", "i05"} & set(dict(before))
    np.testing.assert_array_equal(again.embed_user(events(["gone"])), edge.embed_user(events(["gone"])))
    # Another model makes its own vectors of the same texts, and what was removed stays so.
    other = EdgeRecommender(bundles[1], Journal(path))
    found = dict(other.recommend(k=1000))
    assert not {"gone", "i05"} & set(found)
    assert found["new"] == pytest.approx(
        float(other.embed_item("new", title="storm", tags=["rain"]) @ other.embed_user()), abs=1e-4
    )


def test_another_bundle_knows_its_own_items_better(bundles: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    before = dict(EdgeRecommender(bundles[1]).recommend(k=1000))
    EdgeRecommender(bundles[0], Journal(path)).add_item("i05", title="wine")
    assert dict(EdgeRecommender(bundles[1], Journal(path)).recommend(k=1000)) == before
    first = dict(EdgeRecommender(bundles[0], Journal(path)).recommend(k=1000))
    assert first["i05"] != dict(EdgeRecommender(bundles[0]).recommend(k=1000))["i05"]


def test_there_is_a_bound_on_what_is_added(bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADDED", 2)
    edge = EdgeRecommender(bundles[0])
    for item in ("x", "y", "x"):
        edge.add_item(item, title="wine")
    with pytest.raises(BadRequest, match="serve a newer one"):
        edge.add_item("z", title="wine")


def test_what_is_removed_makes_room_and_stays_removed(
    bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ADDED", 2)
    path = tmp_path / "items.jsonl"
    edge = EdgeRecommender(bundles[0], Journal(path))
    edge.add_item("i05", title="wine")
    edge.remove_item("i05")
    for number in range(40):
        edge.add_item(f"x{number:02}", title="storm")
        assert f"x{number:02}" in dict(edge.recommend(k=1000))
        if number < 38:
            edge.remove_item(f"x{number:02}")
    with pytest.raises(BadRequest, match="serve a newer one"):
        edge.add_item("one too many", title="wine")
    # The last bundle is one to go back to: what was removed is removed there too.
    for bundle in (bundles[0], bundles[1], bundles[0]):
        found = dict(EdgeRecommender(bundle, Journal(path)).recommend(k=1000))
        assert {item for item in found if item.startswith("x")} == {"x38", "x39"}
        assert "i05" not in found
    assert sum(each.article is not None for each in Journal(path).entries) == 2


def test_another_bundle_does_not_encode_what_was_removed(bundles: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    edge = EdgeRecommender(bundles[0], Journal(path))
    for item in ("new", "gone", "i05"):
        edge.add_item(item, title="storm")
    for item in ("gone", "i05"):
        edge.remove_item(item)
    for bundle in (bundles[1], bundles[0]):
        other = EdgeRecommender(bundle, Journal(path))
        assert list(other._catalogue.added) == ["new"]
        assert not {"gone", "i05"} & set(dict(other.recommend(k=1000)))
        # It is the bundle's as well, and a history that has it still counts.
        assert np.abs(other.embed_user(events(["i05"])) - other.embed_user([])).max() > 0.01
    kept = {each.item: each.article is not None for each in Journal(path).entries}
    assert kept == {"new": True, "gone": False, "i05": False}
    # A bundle that was made before the removal may still bring it.
    assert {each.item for each in Journal(path).entries if not each.on_offer} == {"gone", "i05"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": [("i01", float("nan"))]},
        {"history": [("i01", "7")]},
        {"history": [("i01", 1e39)]},
        {"history": [(7,)]},
        {"history": ["i01"]},
        {"history": [("i01", 1, 2, 3, 4)]},
        {"k": 0},
        {"k": 1001},
        {"k": True},
        {"language": 3},
        {"language": "\ud800"},
        {"time_seconds": 1.5},
        {"time_seconds": 2**63},
        {"exclude": "i01"},
        {"exclude": [1]},
    ],
)
def test_wrong_requests_are_told_in_one_sentence(edge: EdgeRecommender, wrong: dict) -> None:
    with pytest.raises(BadRequest) as error:
        edge.recommend(**wrong)
    assert str(error.value).endswith(".")


def test_a_model_that_gives_no_numbers_is_refused(pair: tuple[Recommender, Path], tmp_path: Path) -> None:
    from benchmarks.edge_bundle import write_bundle

    served = pair[0]
    bias = served.towers.behaviour.bias
    before = bias.numpy()
    try:
        bias.assign(np.full_like(before, np.nan))
        write_bundle(tmp_path / "bundle", served)
    finally:
        bias.assign(before)
    with pytest.raises(BadBundle, match="no numbers"):
        EdgeRecommender(tmp_path / "bundle")


def test_requests_from_many_threads_while_articles_come_and_go(bundles: list[Path]) -> None:
    edge, failures = EdgeRecommender(bundles[0]), []
    expected = {n: edge.embed_user(events(ITEMS[n : n + HISTORY])) for n in range(8)}

    def ask(number: int) -> None:
        try:
            for _ in range(20):
                history = events(ITEMS[number : number + HISTORY])
                np.testing.assert_array_equal(edge.embed_user(history), expected[number])
                found = edge.recommend(history, k=1000)
                assert len(dict(found)) == len(found)
                assert not {item for item, *_ in history} & set(dict(found))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask, args=(number,)) for number in expected]
    for thread in threads:
        thread.start()
    for number in range(20):
        edge.add_item(f"new{number % 3}", title="storm")
        edge.remove_item(f"new{number % 3}")
    for thread in threads:
        thread.join()
    assert not failures


@settings(max_examples=60, deadline=None)
@given(
    history=st.lists(st.sampled_from([*ITEMS, "", "x"]), max_size=12),
    exclude=st.lists(st.sampled_from(ITEMS), max_size=60),
    k=st.integers(1, 100),
)
def test_what_is_recommended_is_the_best_of_what_may_be(
    edge: EdgeRecommender, history: list[str], exclude: list[str], k: int
) -> None:
    found = edge.recommend(events(history), exclude=exclude, k=k)
    free = [item for row, item in enumerate(ITEMS) if row % 11 != 10 and item not in {*history, *exclude}]
    scores = {each.item: each.score for each in edge.rank(free, events(history))}
    assert found == sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:k]
