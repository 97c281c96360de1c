from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.appeal import ContentAppeal
from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.ranker import RankingTower
from towers.recommender import Recommender, _first_distinct
from towers.runtime import seed_everything, tf
from towers.served_ranker import ServedRanker
from towers.text import TextEncoder

ITEMS = [f"i{number:02}" for number in range(20)]
HISTORY, WIDTH = 4, 16
NOON = 1_736_164_800


@pytest.fixture(scope="module")
def served(tiny_preset: str) -> Recommender:
    seed_everything(9)
    content = ContentTower(WIDTH, categories=2, languages=2, items=20)
    content.build({"text": (None, 16)})
    behaviour = BehaviourTower(units=5, languages=2, devices=2, time_of_day=True)
    behaviour.build({"history": (None, HISTORY, WIDTH)})
    rng = np.random.default_rng(10)
    for tower in (content, behaviour):
        tower.set_weights([w + rng.normal(scale=0.2, size=w.shape).astype("f4") for w in tower.get_weights()])
    embeddings = rng.normal(size=(20, WIDTH)).astype(np.float32)
    embeddings[7] = embeddings[6]
    return Recommender(
        content,
        behaviour,
        TextEncoder(tiny_preset, max_tokens=12),
        item_ids=ITEMS,
        embeddings=embeddings,
        on_offer=np.array([item != "i19" for item in ITEMS]),
        items=ITEMS,
        categories=["food", "weather"],
        tags=["rain"],
        tags_kept=2,
        languages=["de", "en"],
        devices=["desktop", "mobile"],
        history=HISTORY,
        top_k=8,
    )


def asked(history: list[list[str]], languages: list[str], **extra: list[list[str]]) -> dict[str, tf.Tensor]:
    width = max(len(row) for row in history)
    padded = [row + [""] * (width - len(row)) for row in history]
    shape = (len(history), width)
    known = np.array(padded, dtype=object).reshape(shape) != ""
    age = np.cumsum(known[:, ::-1], axis=1)[:, ::-1].astype(np.float32) * 3600
    return {
        "history_ids": tf.constant(np.array(padded, dtype=object).reshape(shape), tf.string),
        "history_age_seconds": tf.constant(age * known, tf.float32),
        "history_dwell_seconds": tf.constant(10.0 * known, tf.float32),
        "history_scroll_depth": tf.constant(0.5 * known, tf.float32),
        "language": tf.constant(languages),
        "device": tf.constant(["mobile"] * len(history)),
        "time_seconds": tf.constant([NOON] * len(history), tf.int64),
        **{
            name: tf.constant(np.array(value, dtype=object).reshape(len(history), -1), tf.string)
            for name, value in extra.items()
        },
    }


def numpy(answer: dict[str, tf.Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in answer.items()}


def test_the_best_items_are_recommended_without_history_and_exclusions(served: Recommender) -> None:
    given = asked([["i01", "i02"], []], ["en", ""], exclude_ids=[["i03", ""], ["", "nobody knows this"]])
    found = numpy(served.recommend(**given))
    user = served.embed_users(**{k: v for k, v in given.items() if k != "exclude_ids"})["embedding"].numpy()
    scores = user @ served.embeddings.numpy()[1:].T
    scores[0, [1, 2, 3]] = -np.inf
    scores[:, 19] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :8]
    assert [[item.decode() for item in row] for row in found["ids"]] == [[ITEMS[i] for i in row] for row in expected]
    np.testing.assert_allclose(found["scores"], np.take_along_axis(scores, expected, axis=1), rtol=1e-5, atol=1e-5)


def test_what_is_not_on_offer_still_counts_in_histories_and_can_be_ranked(served: Recommender) -> None:
    with_it, without = (numpy(served.embed_users(**asked([history], ["en"]))) for history in (["i19"], []))
    assert np.abs(with_it["embedding"] - without["embedding"]).max() > 0.1
    ranked = numpy(served.rank(**asked([["i01"]], ["en"]), candidate_ids=tf.constant([["i19"]])))["scores"]
    assert abs(ranked[0, 0]) > 0
    everything = numpy(served.recommend(**asked([[]], ["en"], exclude_ids=[ITEMS[:13]])))["ids"][0]
    assert b"i18" in everything
    assert b"i19" not in everything


def test_among_equal_scores_the_smaller_id_comes_first(served: Recommender) -> None:
    hidden = [each for each in ITEMS if each not in ("i06", "i07")]
    found = numpy(served.recommend(**asked([[]], [""], exclude_ids=[hidden])))
    assert found["ids"][0].tolist() == [b"i06", b"i07", *[b""] * 6]
    assert found["scores"][0, 0] == found["scores"][0, 1]
    np.testing.assert_array_equal(found["scores"][0, 2:], 0)


def test_rank_scores_candidates_in_their_order(served: Recommender) -> None:
    given = asked([["i01", "i02"]], ["de"])
    user = served.embed_users(**given)["embedding"].numpy()[0]
    candidates = ["i09", "", "no such item", "i00"]
    found = numpy(served.rank(**given, candidate_ids=tf.constant([candidates])))["scores"][0]
    vectors = served.embeddings.numpy()
    np.testing.assert_allclose(found, [vectors[10] @ user, 0, 0, vectors[1] @ user], rtol=1e-5, atol=1e-6)


def test_padding_and_unknown_ids_may_stand_anywhere(served: Recommender) -> None:
    plain = numpy(served.embed_users(**asked([["i01", "i02"]], ["en"])))
    spread = asked([["", "i01", "no such item", "i02", ""]], ["en"])
    ages = np.array([[0, 7200, 9e9, 3600, 0]], np.float32)
    spread |= {"history_age_seconds": tf.constant(ages), "history_dwell_seconds": tf.constant([[0, 10, 99, 10.0, 0]])}
    spread |= {"history_scroll_depth": tf.constant([[0, 0.5, 0.9, 0.5, 0]])}
    np.testing.assert_allclose(numpy(served.embed_users(**spread))["embedding"], plain["embedding"], atol=1e-6)


def test_only_the_last_events_of_a_long_history_count(served: Recommender) -> None:
    given = asked([ITEMS[:9]], ["en"])
    tail = {name: value[:, -HISTORY:] if name.startswith("history") else value for name, value in given.items()}
    long, short = (numpy(served.embed_users(**each))["embedding"] for each in (given, tail))
    np.testing.assert_allclose(long, short, atol=1e-6)
    # But everything given is left out of the recommendations.
    found = numpy(served.recommend(**given, exclude_ids=tf.constant([[""]])))["ids"][0]
    assert not {item.decode() for item in found} & set(ITEMS[:9])


def test_a_row_does_not_depend_on_its_batch(served: Recommender) -> None:
    together = numpy(served.embed_users(**asked([["i01", "i02", "i03"], ["i04"], []], ["en", "de", ""])))["embedding"]
    for row, (history, language) in enumerate([(["i01", "i02", "i03"], "en"), (["i04"], "de"), ([], "")]):
        alone = numpy(served.embed_users(**asked([history], [language])))["embedding"]
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)


def test_device_and_time_count_where_they_are_known(served: Recommender) -> None:
    given = asked([["i01", "i02"]], ["en"])

    def embedding(**changes: tf.Tensor) -> Any:
        return numpy(served.embed_users(**given | changes))["embedding"][0]

    unknown = {"device": tf.constant([""]), "time_seconds": tf.constant([0], tf.int64)}
    behaviour = served.towers.behaviour
    device, noon = behaviour.tables["device"].numpy()[2], behaviour.hours.numpy().T @ [0, -1]
    np.testing.assert_allclose(embedding() - embedding(**unknown), device + noon, atol=1e-4)
    np.testing.assert_allclose(embedding() - embedding(device=tf.constant(["a toaster"])), device, atol=1e-4)


def test_new_items_are_embedded_from_what_is_known_of_them(served: Recommender) -> None:
    rows = {
        "item_id": ["i05", "new", "new"],
        "title": ["storm closes harbour", "storm closes harbour", ""],
        "body": ["rain", "rain", ""],
        "language": ["en", "en", ""],
        "category": ["weather", "weather", "no such category"],
        "tags": [["rain", ""], ["", "rain"], ["no such tag", ""]],
    }
    found = numpy(served.embed_items(**{name: tf.constant(value) for name, value in rows.items()}))["embedding"]
    id_part = served.towers.content.embeddings["item"].numpy()[6]
    np.testing.assert_allclose(found[0] - found[1], id_part, atol=1e-5)
    np.testing.assert_allclose(found[2], 0, atol=1e-6)


def test_weights_are_saved_once(served: Recommender) -> None:
    names = [id(variable.handle) for variable in served.variables]
    assert len(names) == len(set(names))
    layers = sum(len(layer.weights) for layer in (served.towers.content, served.towers.behaviour, served.towers.text))
    assert len(names) == layers + 3


def test_an_empty_index_is_refused(served: Recommender) -> None:
    with pytest.raises(ValueError, match="at least one item"):
        Recommender(
            served.towers.content,
            served.towers.behaviour,
            None,
            item_ids=[],
            embeddings=np.zeros((0, WIDTH), np.float32),
            on_offer=np.zeros(0, bool),
            items=[],
            categories=[],
            tags=[],
            tags_kept=2,
            languages=[],
            devices=[],
            history=HISTORY,
            top_k=8,
        )


@pytest.fixture(scope="module")
def two_stage(served: Recommender) -> Recommender:
    """The same towers with a second stage that prefers what is appealing, fresh and of the user's categories."""
    rng = np.random.default_rng(9)
    tower = RankingTower(("click", "read"), features=("retrieval", "category", "appeal", "freshness"), crosses=1)
    tower.build({"user": (None, WIDTH)})
    for weight in tower.trainable_weights:
        weight.assign(rng.normal(scale=0.3, size=weight.shape))
    tower.calibrate([0.5, 1.0], [-1.0, 0.0])
    rows = len(ITEMS) + 1
    category = np.arange(rows) % 3
    appeal = ContentAppeal(WIDTH, categories=2)
    appeal.build()
    appeal.assign(rng.normal(size=WIDTH + 3))
    ranker = ServedRanker(
        tower,
        appeal,
        category=category,
        tags=np.stack([np.arange(rows) % 2, np.zeros(rows)], axis=1),
        appeal=appeal(served.embeddings, category),
        clicks=np.zeros(rows),
        click_rate=np.zeros(rows),
        published_at=np.arange(rows) * 3600,
        retrieve=6,
    )
    settings = {"item_ids": ITEMS, "items": ITEMS, "categories": ["food", "weather"], "tags": ["rain"], "tags_kept": 2}
    return Recommender(
        served.towers.content,
        served.towers.behaviour,
        served.towers.text,
        **settings,
        embeddings=served.embeddings.numpy()[1:],
        on_offer=served.on_offer.numpy()[1:],
        languages=["de", "en"],
        devices=["desktop", "mobile"],
        history=HISTORY,
        top_k=4,
        ranker=ranker,
    )


def test_the_second_stage_orders_what_the_first_retrieves(served: Recommender, two_stage: Recommender) -> None:
    given = asked([["i01", "i02"], []], ["en", ""], exclude_ids=[["i03", ""], ["", "i00"]])
    given["time_seconds"] = tf.constant([90_000, 0], tf.int64)
    found, first = numpy(two_stage.recommend(**given)), numpy(served.recommend(**given))
    retrieved = first["ids"][:, :6]
    context = {name: value for name, value in given.items() if name != "exclude_ids"}
    scores = numpy(two_stage.rank(**context, candidate_ids=tf.constant(retrieved)))["scores"]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(found["ids"], np.take_along_axis(retrieved, order, axis=1))
    np.testing.assert_allclose(found["scores"], np.take_along_axis(scores, order, axis=1), rtol=1e-5, atol=1e-5)
    assert found["ids"].tolist() != retrieved[:, :4].tolist()


def test_rank_gives_a_probability_for_every_task(two_stage: Recommender) -> None:
    given = asked([["i01", "i02"]], ["de"])
    candidates = ["i09", "", "no such item", "i00", "i19"]
    found = numpy(two_stage.rank(**given, candidate_ids=tf.constant([candidates])))
    assert sorted(found) == ["click", "read", "scores"]
    np.testing.assert_array_equal(found["click"][0, 1:3], 0)
    assert found["scores"][0, 1] == found["scores"][0, 2] != 0  # log-odds: 0 would be better than most
    known = found["click"][0, [0, 3, 4]]
    np.testing.assert_allclose(found["scores"][0, [0, 3, 4]], np.log(known / (1 - known)), rtol=1e-4)


def test_freshness_counts_only_where_the_time_is_known(two_stage: Recommender) -> None:
    given = asked([["i01"], ["i01"], ["i01"]], ["de"] * 3)
    given["time_seconds"] = tf.constant([0, 80_000, 800_000], tf.int64)
    scores = numpy(two_stage.rank(**given, candidate_ids=tf.constant([["i05", "i06"]] * 3)))["scores"]
    assert len({round(float(row[0]), 4) for row in scores}) == 3


def test_tags_count_as_they_do_in_training() -> None:
    given = tf.constant([[0, 3, 3, 0, 2, 5], [0, 0, 0, 0, 0, 0], [4, 1, 4, 1, 2, 9]])
    assert _first_distinct(given, 2).numpy().tolist() == [[3, 2], [0, 0], [4, 1]]
    assert _first_distinct(given, 4).numpy().tolist() == [[3, 2, 5, 0], [0, 0, 0, 0], [4, 1, 2, 9]]
    assert _first_distinct(given[:, :1], 2).numpy().tolist() == [[0, 0], [0, 0], [4, 0]]


def live(served: Recommender, rows: list[list[int]], ids: list[list[str]] | None = None) -> dict[str, tf.Tensor]:
    """Items of the index as if they came with the request; 0 is padding."""
    names = [[ITEMS[row - 1] if row else "" for row in each] for each in rows] if ids is None else ids
    words = {0: "", 1: "food", 2: "weather"}
    return {
        "live_ids": tf.constant(names, tf.string, [len(rows), len(rows[0])]),
        "live_embeddings": tf.gather(served.embeddings, tf.constant(rows, tf.int32, [len(rows), len(rows[0])])),
        "live_category": tf.constant(
            [[words[row % 3] for row in each] for each in rows], tf.string, [len(rows), len(rows[0])]
        ),
        "live_tags": tf.constant(
            [[["nobody knows this", "rain" * (row % 2)] for row in each] for each in rows],
            tf.string,
            [len(rows), len(rows[0]), 2],
        ),
        "live_published_seconds": tf.constant(
            [[row * 3600 for row in each] for each in rows], tf.int64, [len(rows), len(rows[0])]
        ),
    }


@pytest.mark.parametrize("stages", ["served", "two_stage"])
@pytest.mark.parametrize("rows", [[[], []], [[0, 0], [0, 0]], [[2, 6, 20], [5, 0, 13]]])
def test_what_comes_with_the_request_counts_like_what_is_in_the_index(
    stages: str, rows: list[list[int]], request: pytest.FixtureRequest
) -> None:
    model: Recommender = request.getfixturevalue(stages)
    histories = [["i01", "nobody", "i05", "i02", "i03", "i04"], ["i04"]]
    given = asked(histories, ["en", ""], exclude_ids=[["i03", ""], ["", "i12"]])
    given["time_seconds"] = tf.constant([90_000, 0], tf.int64)
    expected, found = numpy(model.recommend(**given)), numpy(model.recommend_live(**given, **live(model, rows)))
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-5, atol=1e-5)
    if rows[0][:1] != [2]:
        np.testing.assert_array_equal(found["ids"], expected["ids"])
        return
    # i19 is not on offer in the index, but it comes with the first request.
    assert set(expected["ids"][1]) == set(found["ids"][1])


@pytest.mark.parametrize("stages", ["served", "two_stage"])
def test_an_article_younger_than_the_index_is_recommended_and_read(stages: str, request: pytest.FixtureRequest) -> None:
    model: Recommender = request.getfixturevalue(stages)
    given = asked([["i01"]] * 3, ["en"] * 3, exclude_ids=[[""], ["new"], [""]])
    user = model.embed_users(**{k: v for k, v in given.items() if k != "exclude_ids"})["embedding"]
    fresh = live(model, [[3]] * 3, [["new"]] * 3)
    fresh["live_embeddings"] = 3 * user[:, None]
    found = numpy(model.recommend_live(**given, **fresh))
    assert b"new" in found["ids"][0]
    assert b"new" not in found["ids"][1]
    if stages == "served":
        assert found["ids"][0, 0] == b"new"
    read = asked([["i01", "new"]], ["en"], exclude_ids=[[""]])
    one = {name: value[:1] for name, value in fresh.items()}
    after = numpy(model.recommend_live(**read, **one))
    assert b"new" not in after["ids"]
    assert np.abs(after["scores"] - numpy(model.recommend(**read))["scores"]).max() > 1e-3
