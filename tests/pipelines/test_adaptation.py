from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.adaptation import REPORT, adapt, table_lines
from pipelines.data.dataset import Dataset
from pipelines.data.domains import DomainItems
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.fit import training_examples
from pipelines.held_out import hold_out
from pipelines.prepare import Prepared, prepare
from pipelines.recipe import Adaptation, Recipe
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.training import train


def recipe(base: dict[str, Any], **adaptation: Any) -> Recipe:
    changed = copy.deepcopy(base)
    changed["training"]["epochs"] = 2
    return Recipe.model_validate(changed | ({"adaptation": adaptation} if adaptation else {}))


@pytest.fixture(scope="module")
def data(dataset_folder: Path, plain_recipe: dict[str, Any]) -> Prepared:
    return prepare(Dataset.open(dataset_folder), recipe(plain_recipe))


def test_a_step_has_as_many_items_of_each_domain_clicked_on_or_not(data: Prepared) -> None:
    domains = DomainItems.of(data.catalogue, Adaptation(domain="category", items=10))
    drawn = domains.draw(np.random.default_rng(1))
    assert domains.names == ["food", "football", "politics", "weather"]
    assert drawn["domain"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [data.catalogue.category[row - 1] for row in drawn["domain_items"]] == [
        domains.names[place] for place in drawn["domain"]
    ]
    against = DomainItems.of(data.catalogue, Adaptation(domain="category", target="food", items=100))
    drawn = against.draw(np.random.default_rng(1))
    food = data.catalogue.category[drawn["domain_items"] - 1] == "food"
    assert against.names == ["food", "others"]
    assert np.array_equal(drawn["domain"] == 0, food)
    assert food.sum() == 50, "twelve items are drawn repeatedly"


def test_adaptation_changes_no_example(data: Prepared, plain_recipe: dict[str, Any]) -> None:
    plain = training_examples(recipe(plain_recipe), data).batch(1, 0)
    adapted = training_examples(recipe(plain_recipe, domain="category"), data).batch(1, 0)
    assert set(adapted) - set(plain) == {"domain_items", "domain"}
    assert all(np.array_equal(plain[name], adapted[name]) for name in plain)


@pytest.mark.parametrize(
    ("adaptation", "said"),
    [({"domain": "language", "target": "xx"}, "no item has the language 'xx' (there are de, en)")],
)
def test_domains_that_are_not_there_are_refused(data: Prepared, adaptation: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as refused:
        DomainItems.of(data.catalogue, Adaptation(**adaptation))
    assert said in str(refused.value)


def test_a_domain_of_one_value_is_refused(made: Any) -> None:
    with pytest.raises(BadInput, match="two values of language; the catalogue has none"):
        DomainItems.of(made.catalogue, Adaptation(domain="language"))


def test_nothing_of_the_held_out_items_is_left_before_the_test(data: Prepared) -> None:
    held = np.r_[False, data.catalogue.category == "food"]
    left = hold_out(data, held)
    log, old = left.behaviour.interactions, data.behaviour.interactions
    test = left.parts.interactions == Part.TEST
    assert not held[log.item[~test]].any()
    assert test.sum() == (data.parts.interactions == Part.TEST).sum()
    assert (~held[old.item]).sum() == (~held[log.item]).sum()
    requests = left.behaviour.requests
    request = np.repeat(np.arange(len(requests)), np.diff(requests.offsets))
    tested = (left.parts.requests == Part.TEST)[request]
    assert not held[requests.item[~tested]].any()
    assert held[requests.item[tested]].any()
    assert not set(left.vocabulary.items) & set(data.catalogue.ids[held[1:]])
    assert len(left.catalogue) == len(data.catalogue)
    # A history is the same events as before, less what is gone.
    starts = log.user_offsets[requests.user]
    old_starts = old.user_offsets[requests.user]
    for place in range(0, len(requests), 7):
        before = slice(old_starts[place], data.behaviour.requests.history_end[place])
        gone = held[old.item[before]] & (data.parts.interactions[before] != Part.TEST)
        now = log.item[starts[place] : requests.history_end[place]]
        assert np.array_equal(now, old.item[before][~gone])
    assert np.array_equal(np.repeat(np.arange(len(log.user_ids)), np.diff(log.user_offsets)), log.user)


@pytest.mark.usefixtures("loaded_here")
def test_an_adapted_recipe_trains_exports_and_leaves_its_head_behind(
    dataset_folder: Path, plain_recipe: dict[str, Any], model_folder: Path, tmp_path: Path
) -> None:
    from towers.runtime import tf

    dataset = Dataset.open(dataset_folder)
    wanted = recipe(plain_recipe, domain="language", method="adversarial", weight=0.5)
    metrics = train(wanted, dataset, tmp_path / "run")
    assert train(wanted, dataset, tmp_path / "again") == metrics
    plain = train(recipe(plain_recipe), dataset, tmp_path / "plain")
    assert train(recipe(plain_recipe, domain="language", weight=0.0), dataset, tmp_path / "zero") == plain
    assert metrics["loss"] != plain["loss"]
    run = Run.open(tmp_path / "run")
    assert "head" not in str([weight.path for weight in run.model(prepare(dataset, wanted).catalogue).weights])
    version = export(run, tmp_path / "model")
    found, expected = (tf.saved_model.load(str(folder)).signatures for folder in (version, model_folder / "1"))
    assert set(found) == set(expected)
    assert {"recommend", "rank", "embed_items", "embed_users"} <= set(found)


def test_a_recipe_that_leaves_adaptation_nothing_to_train_is_refused(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    wanted = recipe(plain_recipe, domain="language").model_dump(mode="json")
    wanted["features"] |= {"category": False, "item_id": False, "language": False}
    wanted["towers"]["projection"] = "keep"
    with pytest.raises(BadInput, match="nothing to train in the content tower"):
        train(Recipe.model_validate(wanted), Dataset.open(dataset_folder), tmp_path / "run")


def test_the_report_compares_three_models_on_the_same_rows(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path
) -> None:
    wanted = recipe(plain_recipe, weight=0.5)
    result = adapt(wanted, Dataset.open(dataset_folder), tmp_path / "out", domain="category", held_out="food")
    assert json.loads((tmp_path / "out" / REPORT).read_text()) == result
    for part in ("held_out", "others"):
        metrics, difference = result[part]["metrics"], result[part]["difference"]
        assert list(metrics) == ["without", "adversarial", "multi_task"]
        assert len({values["auc"]["count"] for values in metrics.values()}) == 1
        for method, values in difference.items():
            apart = metrics[method]["auc"]["mean"] - metrics["without"]["auc"]["mean"]
            assert values["auc"]["mean"] == pytest.approx(apart)
    lead = result["held_out"]["difference"]["adversarial"]["auc"]
    assert ("a gain" in result["verdict"]["adversarial"]) == (lead["low"] > 0)
    assert any("clicks on the held-out domain: auc" in line for line in table_lines(result))


def test_the_command_refuses_what_is_not_there(
    dataset_folder: Path, plain_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli.app import run

    (tmp_path / "r.yaml").write_text(recipe(plain_recipe).dump())
    given = ["adapt", str(tmp_path / "r.yaml"), "--data", str(dataset_folder), "--out", str(tmp_path / "out")]
    assert run([*given, "--domain", "colour", "--held-out", "red"]) == 2
    assert run([*given, "--domain", "category", "--held-out", "nosuch"]) == 2
    said = capsys.readouterr().err
    assert "--domain is language or category, not 'colour'" in said
    assert "no item has the category 'nosuch'" in said
    assert not (tmp_path / "out").exists()
