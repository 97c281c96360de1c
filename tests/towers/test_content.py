from __future__ import annotations

import numpy as np
import pytest

from towers.content import ContentTower
from towers.runtime import keras, tf


def inputs(rows: int = 5, width: int = 6) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(rows, width)).astype(np.float32)
    return {
        "text": tf.constant(text / np.linalg.norm(text, axis=1, keepdims=True)),
        "category": tf.constant([0, 1, 2, 1, 2][:rows]),
        "tags": tf.constant([[0, 0], [1, 0], [1, 3], [2, 0], [3, 1]][:rows]),
        "language": tf.constant([0, 1, 1, 2, 2][:rows]),
        "item": tf.constant([0, 1, 2, 3, 4][:rows]),
    }


def full_tower(**changes: object) -> ContentTower:
    settings = {"width": 6, "categories": 2, "tags": 3, "languages": 2, "items": 4, **changes}
    tower = ContentTower(**settings)  # type: ignore[arg-type]
    tower.build({"text": (None, 6)})
    return tower


def test_an_untrained_tower_is_the_frozen_encoder() -> None:
    given = inputs()
    np.testing.assert_allclose(full_tower()(given).numpy(), given["text"].numpy(), atol=1e-6)


def test_another_width_keeps_cosines_as_an_orthogonal_map_does() -> None:
    keras.utils.set_random_seed(1)
    given = inputs()
    wide = ContentTower(16)(given).numpy()
    np.testing.assert_allclose(wide @ wide.T, given["text"].numpy() @ given["text"].numpy().T, atol=1e-5)


def test_the_unknown_adds_nothing_however_the_tables_are_trained() -> None:
    tower = full_tower()
    for table in tower.embeddings.values():
        table.assign(tf.ones(table.shape))
    given = inputs()
    unknown = {**given, **{name: tf.zeros_like(given[name]) for name in ("category", "tags", "language", "item")}}
    np.testing.assert_allclose(tower(unknown).numpy(), given["text"].numpy(), atol=1e-6)
    assert not np.allclose(tower(given).numpy()[1:], given["text"].numpy()[1:])


def test_every_id_is_dropped_at_full_id_dropout_and_only_in_training() -> None:
    tower = full_tower(id_dropout=0.999999)
    tower.embeddings["item"].assign(tf.ones(tower.embeddings["item"].shape))
    given = inputs()
    np.testing.assert_allclose(tower(given, training=True).numpy(), given["text"].numpy(), atol=1e-6)
    assert not np.allclose(tower(given, training=False).numpy()[1:], given["text"].numpy()[1:])


def test_any_leading_shape_gives_the_same_rows() -> None:
    tower = full_tower()
    tower.embeddings["category"].assign(tf.random.stateless_normal(tower.embeddings["category"].shape, (1, 2)))
    given = inputs(4)
    flat = tower(given).numpy()
    square = tower({name: tf.reshape(value, (2, 2, *value.shape[1:])) for name, value in given.items()}).numpy()
    np.testing.assert_allclose(square.reshape(4, 6), flat, atol=1e-6)


def test_ids_alone_do_not_start_where_every_gradient_vanishes() -> None:
    tower = ContentTower(6, use_text=False, items=4)
    tower.build({"text": (None, 0)})
    assert np.abs(tower.embeddings["item"].numpy()).max() > 0


def test_a_kept_projection_is_not_trainable() -> None:
    names = {weight.name for weight in full_tower(train_projection=False).trainable_weights}
    assert "projection_change" not in names
    assert "category_table" in names


def test_an_image_adds_nothing_untrained_beside_text_and_everything_without() -> None:
    image = np.random.default_rng(3).normal(size=(5, 6)).astype(np.float32)
    given = {**inputs(), "image": tf.constant(image)}
    both = ContentTower(6, use_image=True)
    np.testing.assert_allclose(both(given).numpy(), given["text"].numpy(), atol=1e-6)
    both.change["image"].assign(tf.eye(6))
    np.testing.assert_allclose(both(given).numpy(), given["text"].numpy() + image, atol=1e-6)
    alone = ContentTower(6, use_text=False, use_image=True, train_projection=False)
    np.testing.assert_allclose(alone(given).numpy(), image, atol=1e-6)
    assert {weight.name for weight in alone.trainable_weights} == {"image_projection_change"}


def test_fields_are_added_up_untrained() -> None:
    rng = np.random.default_rng(4)
    title, body = (tf.constant(rng.normal(size=(3, 6)).astype(np.float32)) for _ in range(2))
    found = ContentTower(6, fields=2)({"text": tf.concat([title, body], 1)}).numpy()
    np.testing.assert_allclose(found, (title + body).numpy(), atol=1e-6)


def test_untrained_hidden_layers_change_nothing() -> None:
    given = inputs()
    np.testing.assert_allclose(full_tower(hidden=(8, 4))(given).numpy(), given["text"].numpy(), atol=1e-6)


def test_a_tower_without_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one of text, image, category, tags and id"):
        ContentTower(6, use_text=False, languages=3)


def test_tags_add_the_mean_of_theirs_in_any_order() -> None:
    tower = full_tower()
    given = inputs()
    before = tower(given).numpy()
    values = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    tower.embeddings["tags"].assign(values)
    added = tower(given).numpy() - before
    np.testing.assert_allclose(added[0], 0, atol=1e-6)
    np.testing.assert_allclose(added[1], values[1], atol=1e-6)
    np.testing.assert_allclose(added[2], (values[1] + values[3]) / 2, atol=1e-6)
    turned = {**given, "tags": tf.reverse(given["tags"], [1])}
    np.testing.assert_allclose(tower(turned).numpy(), tower(given).numpy(), atol=1e-6)
