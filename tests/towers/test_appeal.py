from __future__ import annotations

import numpy as np

from towers.appeal import ContentAppeal
from towers.runtime import tf


def test_the_layer_is_the_product_of_its_inputs_and_weights() -> None:
    rng = np.random.default_rng(0)
    layer = ContentAppeal(4, 3)
    layer.build()
    embedding = rng.normal(size=(6, 4)).astype(np.float32)
    embedding[0] = 0
    category = np.array([0, 1, 2, 3, 0, 1], np.int32)
    weights = rng.normal(size=8)
    layer.assign(weights)
    found = layer(tf.constant(embedding), tf.constant(category)).numpy()
    np.testing.assert_allclose(found, layer.inputs(embedding, category) @ weights, atol=1e-5)
    assert not layer.trainable_weights
