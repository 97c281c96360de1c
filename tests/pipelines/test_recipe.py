"""Recipes: what they refuse, and that they survive being written down."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import recipes
from pipelines.errors import BadInput
from pipelines.recipe import Data, Export, Features, Recipe, Split, Text, Towers, Training
from towers.history_encoders import EncoderName

FOLDER = Path(recipes.__file__).parent
SHARE = st.floats(0, 0.5, exclude_max=True)
POSITIVE = st.floats(0, 1e6, exclude_min=True)
NOT_NEGATIVE = st.floats(0, 1e6)
FLAG = st.booleans()


def load(tmp_path: Path, content: str | bytes) -> Recipe:
    (tmp_path / "r.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    return Recipe.load(tmp_path / "r.yaml")


def refusal(tmp_path: Path, content: str | bytes) -> str:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, content)
    text = str(caught.value)
    assert "\n" not in text
    assert "r.yaml" in text
    return text


TEXTS = st.builds(Text, preset=st.text(st.characters(codec="utf-8")), max_tokens=st.integers(4, 512))
RECIPES = st.builds(
    Recipe,
    data=st.builds(
        Data,
        split=st.builds(Split, by=st.sampled_from(["time", "last", "none"]), validation=SHARE, test=SHARE),
        examples=st.sampled_from(["auto", "impressions", "interactions"]),
        positive_rating=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    features=st.builds(
        Features,
        text=st.none() | TEXTS,
        category=st.just(True),
        language=FLAG,
        device=FLAG,
        time_of_day=FLAG,
        item_id=FLAG,
        history=st.integers(1, 1000),
    ),
    towers=st.builds(
        Towers,
        width=st.integers(8, 1024),
        projection=st.sampled_from(["auto", "train", "keep"]),
        dropout=SHARE,
        history_encoder=st.sampled_from(get_args(EncoderName)),
        scale=POSITIVE,
    ),
    training=st.builds(
        Training,
        seed=st.integers(0, 2**63),
        epochs=st.integers(1, 10**6),
        learning_rate=POSITIVE,
        weight_decay=NOT_NEGATIVE,
        max_examples_per_user=st.none() | st.integers(1, 10**6),
    ),
    export=st.builds(Export, top_k=st.integers(1, 10**6)),
)


@given(RECIPES)
@settings(deadline=None)
def test_what_is_dumped_loads_as_the_same_recipe(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    assert load(tmp_path_factory.getbasetemp(), recipe.dump()) == recipe


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_loads_and_says_how_to_run_it(path: Path) -> None:
    assert recipes.shipped(path.stem) == path
    assert Recipe.load(path) == Recipe.load(str(path))
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"belfry train recipes/{path.name}" in line or f"belfry {path.stem}" in line for line in header)


@pytest.mark.parametrize("content", ["", "# nothing\n", "\ufeff", "{}", "null", "---\n"])
def test_an_empty_file_is_the_defaults(tmp_path: Path, content: str) -> None:
    assert load(tmp_path, content) == Recipe()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("towers: {widht: 8}", "towers.widht is not a known key"),
        ("tower: {width: 8}", "tower is not a known key"),
        ("data: {split: {by: month}}", "data.split.by: "),
        ("data: {split: {validation: 1.0}}", "data.split.validation: input should be less than 1"),
        ("training: {epochs: 2.5}", "training.epochs: input should be a valid integer"),
        ("training: {epochs: '2'}", "training.epochs: input should be a valid integer"),
        ("training: {epochs: yes}", "training.epochs: input should be a valid integer"),
        ("training: {epochs: 0}", "training.epochs: input should be greater than or equal to 1"),
        ("training: {learning_rate: -1}", "training.learning_rate: input should be greater than 0"),
        ("training: {learning_rate: .nan}", "training.learning_rate: "),
        ("features: {text: minilm}", "features.text: "),
        ("features: {category: 1}", "features.category: input should be a valid boolean"),
        (
            "features: {text: null, category: false, item_id: false}",
            "one of text, image, category, tags and item_id must be in use",
        ),
        ("features: {image: {size: 64}}", "features.image.preset: "),
        ("features: {text: {pooling: attention}}", "attention is learned, so it needs fine_tuning"),
        ("image_tuning: {epoch: 1}", "image_tuning needs features.image"),
        (
            "{features: {image: {preset: p}}, image_tuning: {epoch: 9}, training: {epochs: 8}}",
            "image_tuning thaws layers in epoch 9, but training.epochs is 8",
        ),
        ("towers: {history_encoder: rnn}", "towers.history_encoder: "),
        ("towers: {history_encoder: transformer, history_units: 6, history_heads: 4}", "a multiple of history_heads"),
        ("towers: 3", "towers: "),
        ("1: {}", "1"),
        ("training: {epochs: 0, batch_size: 1}", "(and 1 more)"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(tmp_path, content)


@pytest.mark.parametrize(
    "content", ["a: [", "\tx", "a: b: c", "%", b"\xff\xfe\x00", b"\x00\x01", "!!python/name:os.system"]
)
def test_what_is_no_yaml_is_bad_input(tmp_path: Path, content: str | bytes) -> None:
    assert "is not a YAML file that can be read" in refusal(tmp_path, content)


@pytest.mark.parametrize("content", ["just words", "[1, 2]", "3", "false", "''"])
def test_what_is_no_set_of_sections_is_bad_input(tmp_path: Path, content: str) -> None:
    assert "must hold sections such as `towers:`" in refusal(tmp_path, content)


def test_a_missing_recipe_and_a_folder_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"r\.yaml does not exist"):
        Recipe.load(tmp_path / "r.yaml")
    with pytest.raises(BadInput, match="not a YAML file that can be read"):
        Recipe.load(tmp_path)


def test_a_recipe_names_the_encoders_that_the_towers_have() -> None:
    assert get_args(Towers.model_fields["history_encoder"].annotation) == get_args(EncoderName)


def test_recipes_cannot_be_changed_in_place() -> None:
    recipe = Recipe()
    before = copy.deepcopy(recipe)
    with pytest.raises(ValidationError):
        recipe.training.epochs = 9  # type: ignore[misc]
    assert recipe == before


def test_a_recipe_may_name_only_what_it_changes(tmp_path: Path) -> None:
    changed = load(tmp_path, "towers: {width: 16}")
    assert changed.towers.width == 16
    assert changed.model_copy(update={"towers": Towers()}) == Recipe()


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("training: {learning_rate: 1e-4, weight_decay: 2E-3}")
    training = Recipe.load(tmp_path / "recipe.yaml").training
    assert (training.learning_rate, training.weight_decay) == (1e-4, 2e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {learning_rate: .inf}", "learning_rate"),
        ("data: {positive_rating: .nan}", "positive_rating"),
        ("training: {epochs: 1}\ntraining: {epochs: 2}", "'training' stands twice"),
        ("data: {split: {validation: 0.5, test: 0.5}}", "leave something to train on"),
        ("training: {seed: 2001-13-45}", "not a YAML file that can be read"),
    ],
)
def test_values_that_would_go_wrong_later_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(BadInput, match=message):
        Recipe.load(tmp_path / "recipe.yaml")


def test_a_shipped_recipe_is_had_by_name() -> None:
    assert Recipe.shipped("ids") == Recipe.load(recipes.shipped("ids"))
    with pytest.raises(BadInput, match="choose catalogue, demo, ids"):
        Recipe.shipped("nothing")


def test_a_search_can_be_given_and_else_is_left_behind() -> None:
    recipe = Recipe().changed({"search": {"towers.width": [16, 32]}, "towers.width": 64})
    assert (recipe.search, recipe.towers.width) == ({"towers.width": [16, 32]}, 64)
    assert recipe.changed({"towers.width": 16}).search == {}
    with pytest.raises(BadInput, match="search"):
        Recipe().changed({"search": {"towers.width": [16]}})
