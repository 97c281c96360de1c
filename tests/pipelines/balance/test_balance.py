"""What a recipe adds to its positives: from the training part alone, and to training alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.balance import Additions, additions
from pipelines.balance.classes import Classes, repeated
from pipelines.balance.synthetic import synthetic
from pipelines.data.dataset import Dataset
from pipelines.data.positives import Positives
from pipelines.data.splits import Part
from pipelines.fit import training_examples
from pipelines.item_table import item_table, text_table, with_views
from pipelines.prepare import Prepared, prepare
from pipelines.recipe import Balance, Recipe, Synthetic, Upsample

METHODS = ("smote", "borderline_smote", "adasyn", "smote_enn")
EVERYTHING = {
    "by": "popularity",
    "head": 0.5,
    "weights": 0.5,
    "upsample": {"to": 0.9},
    "synthetic": {"to": 1.0, "neighbours": 3},
    "simulated": {"events": 6, "each": 2},
}
VARIED = {
    "history": {"crop": 0.2, "mask": 0.2, "substitute": 0.2, "reorder": 0.3},
    "text": {"token_dropout": 0.3, "swap_fields": 0.5, "views": 2},
}


def recipe(base: dict[str, Any], **sections: Any) -> Recipe:
    return Recipe.model_validate(copy.deepcopy(base) | sections)


@pytest.fixture(scope="module")
def everything(small_recipe: dict[str, Any]) -> Recipe:
    return recipe(small_recipe, balance=EVERYTHING, augmentation=VARIED)


@pytest.fixture(scope="module")
def data(dataset_folder: Path, small_recipe: dict[str, Any]) -> Prepared:
    return prepare(Dataset.open(dataset_folder), recipe(small_recipe))


def added(recipe: Recipe, data: Prepared) -> Additions:
    found = additions(recipe, data, training_examples(recipe, data).positives)
    assert found is not None
    return found


def same(one: Positives, other: Positives) -> bool:
    names = ("user", "history_end", "at", "device", "request", "item", "weight", "view")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_nothing_is_added_where_nothing_is_on(data: Prepared, small_recipe: dict[str, Any]) -> None:
    plain = training_examples(recipe(small_recipe), data)
    assert additions(recipe(small_recipe), data, plain.positives) is None
    off = recipe(small_recipe, balance={}, augmentation={})
    found = additions(off, data, plain.positives)
    assert found is not None
    assert not len(found.positives)
    assert found.views is None
    assert found.item_weight is None
    other = training_examples(off, data, added=found.positives, item_weight=found.item_weight, views=found.views)
    for number in range(len(plain)):
        one, two = plain.batch(1, number), other.batch(1, number)
        assert list(one) == list(two)
        assert all(np.array_equal(one[name], two[name]) for name in one)


def test_the_same_seed_adds_the_same(data: Prepared, everything: Recipe) -> None:
    one, other = added(everything, data), added(everything, data)
    assert same(one.positives, other.positives)
    assert one.report == other.report
    assert one.views is not None
    assert other.views is not None
    np.testing.assert_array_equal(one.views.text, other.views.text)
    seeded = everything.model_copy(update={"training": everything.training.model_copy(update={"seed": 9})})
    assert not same(one.positives, added(seeded, data).positives)


def test_what_users_read_in_validation_and_test_is_not_looked_up(data: Prepared, everything: Recipe) -> None:
    """Other answers, the same additions."""
    log = data.behaviour.interactions
    held = data.parts.interactions != Part.TRAIN
    assert held.any()
    item = np.where(held, np.random.default_rng(2).permutation(log.item), log.item).astype(np.int32)
    behaviour = replace(data.behaviour, interactions=replace(log, item=item))
    other = replace(data, behaviour=behaviour, window=replace(data.window, interactions=behaviour.interactions))
    assert same(added(everything, data).positives, added(everything, other).positives)


def test_nothing_that_is_added_is_in_a_history_or_in_another_part(data: Prepared, everything: Recipe) -> None:
    log = data.behaviour.interactions
    before = copy.deepcopy((log, data.parts))
    found = added(everything, data).positives
    for name in ("item", "user", "at", "history_end"):
        np.testing.assert_array_equal(getattr(log, name), getattr(before[0], name))
    np.testing.assert_array_equal(data.parts.interactions, before[1].interactions)
    train = log.at[data.parts.interactions == Part.TRAIN]
    assert found.at.max() <= train.max()
    # Who asks is who asked in training: every user, moment and end of a history is one of the training part's.
    asked = set(zip(log.user.tolist(), log.history_end.tolist(), log.at.tolist(), strict=True))
    assert set(zip(found.user.tolist(), found.history_end.tolist(), found.at.tolist(), strict=True)) <= asked


def test_simulated_interactions_are_possible_ones(data: Prepared, small_recipe: dict[str, Any]) -> None:
    simulate = {"events": 6, "each": 3, "weight": 0.25}
    found = added(recipe(small_recipe, balance={"simulated": simulate}), data)
    log, requests, catalogue = data.behaviour.interactions, data.behaviour.requests, data.catalogue
    more, report = found.positives, found.report["balance"]["simulated"]
    assert report["added"] == len(more) > 20
    assert (more.weight == 0.25).all()
    trained = data.parts.interactions == Part.TRAIN
    count = np.bincount(log.user[trained], minlength=60)
    assert (count[more.user] <= 6).all()
    assert len(set(zip(more.user.tolist(), more.item.tolist(), strict=True))) == len(more)
    assert catalogue.on_offer(more.at)[np.arange(len(more)), more.item - 1].all()
    for user, item, at, request in zip(more.user, more.item, more.at, more.request, strict=True):
        mine = trained & (log.user == user)
        assert item not in log.item[mine]
        source = log.item[mine & (log.at == at)]
        assert catalogue.language[item - 1] in catalogue.language[source - 1]
        shown = requests.item[requests.offsets[request] : requests.offsets[request + 1]]
        assert item not in shown


def test_a_thin_class_is_a_segment_too(data: Prepared, small_recipe: dict[str, Any]) -> None:
    settings = {"by": "popularity", "head": 0.9, "simulated": {"segment": "classes", "below": 0.5}}
    found = added(recipe(small_recipe, balance=settings), data)
    assert found.report["balance"]["simulated"]["of_positives"] == found.report["balance"]["positives"]["tail"]
    even = added(recipe(small_recipe, balance=settings | {"simulated": {"segment": "classes", "below": 0.01}}), data)
    assert not len(even.positives)


def test_without_texts_items_are_similar_by_their_readers(data: Prepared, small_recipe: dict[str, Any]) -> None:
    values = copy.deepcopy(small_recipe)
    values["features"]["text"] = None
    wanted = recipe(values, balance={"simulated": {"events": 8}}, augmentation={"history": {"substitute": 0.5}})
    assert len(added(wanted, data).positives)
    examples = training_examples(wanted, data)
    plain = training_examples(recipe(values), data)
    assert not np.array_equal(examples.batch(1, 0)["history"], plain.batch(1, 0)["history"])


def classes_of(counts: dict[str, int]) -> tuple[Classes, Positives]:
    """One item a class, and so many positives of it."""
    item = np.repeat(np.arange(1, len(counts) + 1), list(counts.values())).astype(np.int32)
    nothing = np.zeros(len(item), np.int64)
    positives = Positives(
        nothing, nothing, nothing, np.full(len(item), ""), nothing - 1, item, np.ones(len(item), np.float32), item * 0
    )
    return Classes(list(counts), np.arange(-1, len(counts))), positives


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ({"to": 0.5, "most": 100}, {"b": 40, "c": 49}),
        ({"to": 1.0, "of": "median", "most": 100}, {"c": 9}),
        ({"to": 0.5, "most": 2}, {"b": 20, "c": 2}),
        ({"to": 0.05, "most": 2}, {"c": 2}),
    ],
)
def test_a_thin_class_is_filled_so_far_and_no_further(fill: dict[str, Any], expected: dict[str, int]) -> None:
    classes, positives = classes_of({"a": 100, "b": 10, "c": 1, "d": 0})
    missing = classes.missing(positives, Upsample(**fill))
    assert classes.named(missing) == expected
    more = repeated(classes, positives, missing, np.random.default_rng(1))
    assert classes.named(classes.counts(more)) == expected
    # All of a class come as often as each other, within one.
    if "b" in expected:
        assert len(more) == sum(expected.values())


def test_weights_have_mean_one_and_favour_the_thin() -> None:
    classes, positives = classes_of({"a": 90, "b": 9, "c": 1, "d": 0})
    for power in (0.5, 1.0):
        weight = classes.weights(positives, power)
        assert weight[positives.item].mean() == pytest.approx(1, abs=1e-5)
        assert weight[1] < weight[2] < weight[3]
        assert weight[3] / weight[1] == pytest.approx(90**power, rel=1e-5)
    assert (Classes(["a"], np.array([-1, -1, -1, -1, -1])).weights(positives, 1.0) == 1).all()


def texts(sizes: list[int], seed: int = 0) -> tuple[Classes, Positives, np.ndarray]:
    """Classes of so many items around a centre each, and five positives of each item, of the first class twenty."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    vectors = rng.normal(size=(len(sizes), 12))[of] + 0.8 * rng.normal(size=(len(of), 12))
    vectors = np.r_[np.zeros((1, 12)), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)].astype(np.float32)
    item = np.repeat(np.arange(1, len(of) + 1), np.where(of == 0, 20, 5)).astype(np.int32)
    nothing = np.arange(len(item))
    positives = Positives(
        nothing,
        nothing,
        nothing,
        np.full(len(item), ""),
        nothing * 0 - 1,
        item,
        np.ones(len(item), np.float32),
        item * 0,
    )
    return Classes([f"c{place}" for place in range(len(sizes))], np.r_[-1, of]), positives, vectors


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [[20, 6], [20, 2], [8, 8, 3, 1]], ids=str)
def test_synthetic_vectors_are_of_unit_length_and_stand_for_an_item_of_their_class(
    method: Any, sizes: list[int]
) -> None:
    classes, positives, vectors = texts(sizes)
    settings = Synthetic(method=method, to=1.0, most=3)
    more, views, report = synthetic(classes, positives, vectors, settings, 100, 7)
    assert len(more) == len(views) == report["added"]
    missing = classes.missing(positives, settings)
    made = classes.counts(more)
    assert (made <= missing).all()
    if method == "smote":
        alone = np.array([size == 1 for size in sizes])
        np.testing.assert_array_equal(made, np.where(alone, 0, missing))
    # Each class is filled, or the report says why not.
    for name, lacks, count in zip(classes.names, missing, made, strict=True):
        assert (lacks == 0) or (count > 0) != (name in report.get("left_out", {}))
    if not len(views):
        return
    np.testing.assert_allclose(np.linalg.norm(views.text, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(more.view, 100 + np.arange(len(views)))
    np.testing.assert_array_equal(views.item, more.item)
    assert not views.named.any()
    for vector, item in zip(views.text, views.item, strict=True):
        mine = np.flatnonzero(classes.of_item == classes.of_item[item])
        assert vectors[item] @ vector == pytest.approx((vectors[mine] @ vector).max(), abs=1e-6)
    # The user's context is that of a positive of the item.
    np.testing.assert_array_equal(positives.item[more.user], more.item)


def test_a_class_of_one_item_is_left_out_and_said(data: Prepared) -> None:
    classes, positives, vectors = texts([20, 1])
    more, views, report = synthetic(classes, positives, vectors, Synthetic(to=1.0), 100, 7)
    assert not len(more)
    assert not len(views)
    assert report["left_out"] == {"c1": "one item has no neighbour"}


def test_a_view_has_the_inputs_of_its_item_and_a_synthetic_one_no_id(data: Prepared, everything: Recipe) -> None:
    found = added(everything, data)
    views = found.views
    assert views is not None
    assert 0 < (~views.named).sum() < len(views)
    table = item_table(everything, data.vocabulary, data.catalogue)
    longer = with_views(table, views)
    assert longer.rows == table.rows + len(views)
    for name in ("category", "language", "tags", "text"):
        whole, real = (getattr(each, name).numpy() for each in (longer, table))
        np.testing.assert_array_equal(whole[: table.rows], real)
        if name != "text":
            np.testing.assert_array_equal(whole[table.rows :], real[views.item])
    item = longer.item.numpy()[table.rows :]
    np.testing.assert_array_equal(item, np.where(views.named, table.item.numpy()[views.item], 0))
    np.testing.assert_allclose(np.linalg.norm(views.text, axis=1), 1, atol=1e-4)
    text = text_table(data.catalogue, everything.features.text) if everything.features.text else table.text
    assert not np.allclose(views.text[: len(data.catalogue)], text[views.item][: len(data.catalogue)])


def test_a_batch_names_items_and_says_apart_as_what_they_are_embedded(data: Prepared, everything: Recipe) -> None:
    found = added(everything, data)
    views = found.views
    assert views is not None
    built = training_examples(everything, data, added=found.positives, item_weight=found.item_weight, views=views)
    items, used = len(data.catalogue), set()
    for number in range(len(built)):
        batch = built.batch(1, number)
        seen, positive = batch["view"], batch["positive"]
        assert positive.max() <= items
        assert batch["history"].max() <= items
        assert batch["shown"].max() <= items
        stands_for = np.where(seen > items, views.item[np.maximum(seen - items - 1, 0)], seen)
        np.testing.assert_array_equal(stands_for, positive)
        used |= set(seen.tolist())
    assert set((items + 1 + np.flatnonzero(~views.named)).tolist()) <= used, "every synthetic vector is trained on"
    assert not np.array_equal(built.batch(1, 0)["view"], built.batch(2, 0)["view"])


def test_a_language_that_nobody_has_read_is_no_failure(data: Prepared, small_recipe: dict[str, Any]) -> None:
    log = data.behaviour.interactions
    german = np.r_[False, data.catalogue.language == "de"]
    among = ~german[log.item]
    wanted = recipe(small_recipe, balance={"by": "language", "upsample": {}, "synthetic": {}, "weights": 1.0})
    found = additions(wanted, data, training_examples(wanted, data, among).positives)
    assert found is not None
    assert not len(found.positives)
    assert set(found.report["balance"]["positives"]) == {"en"}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"balance": {"synthetic": {}}, "fine_tuning": True}, "leave it or fine_tuning out"),
        ({"augmentation": {"text": {"views": 2}}, "fine_tuning": True}, "drops tokens alone"),
        ({"augmentation": {"text": {"swap_fields": 0.5}}, "fine_tuning": True}, "drops tokens alone"),
        ({"augmentation": {"text": {"token_dropout": 0.0}}}, "one of token_dropout and swap_fields"),
        ({"balance": {"by": "colour"}}, "balance.by"),
        ({"training": {"event_dropout": 0.5}}, "event_dropout is not a known key"),
    ],
)
def test_what_cannot_be_done_is_refused(
    small_recipe: dict[str, Any], tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    import yaml

    from pipelines.errors import BadInput

    if sections.pop("fine_tuning", None):
        sections["fine_tuning"] = {"stages": [{"epoch": 1, "layers": [0]}]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(copy.deepcopy(small_recipe) | sections))
    with pytest.raises(BadInput) as refused:
        Recipe.load(tmp_path / "r.yaml")
    assert said in str(refused.value)


def test_classes_that_are_not_there_are_one_sentence(data: Prepared, small_recipe: dict[str, Any]) -> None:
    from pipelines.errors import BadInput

    nothing = np.full(len(data.catalogue), "", object)
    other = replace(data, catalogue=replace(data.catalogue, category=nothing))
    positives = training_examples(recipe(small_recipe), other).positives
    wanted = recipe(small_recipe, balance={"by": "category", "weights": 0.5})
    with pytest.raises(BadInput, match="two values of category; the catalogue has none"):
        additions(wanted, other, positives)
    users_alone = recipe(small_recipe, balance={"by": "category", "simulated": {"events": 6}})
    found = additions(users_alone, other, positives)
    assert found is not None
    assert len(found.positives)


def test_a_class_is_by_the_recipe(data: Prepared, small_recipe: dict[str, Any]) -> None:
    positives = training_examples(recipe(small_recipe), data).positives
    by_category = Classes.of(data, Balance(by="category"), positives)
    assert by_category.names == ["food", "football", "politics", "weather"]
    assert by_category.counts(positives).sum() == len(positives)
    tail = Classes.of(data, Balance(head=0.8), positives)
    head, rest = tail.counts(positives)
    assert 0.8 <= head / len(positives) < 0.9
    assert rest == len(positives) - head
