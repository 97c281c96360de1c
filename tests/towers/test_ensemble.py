from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.ensemble import EnsembleBehaviour, EnsembleContent
from towers.runtime import seed_everything, tf

WIDTHS = (6, 4)


def items() -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(1)
    return {
        "text": tf.constant(rng.normal(size=(7, 6)), tf.float32),
        "category": tf.constant([0, 1, 2, 1, 2, 0, 1]),
        "item": tf.constant([1, 2, 3, 4, 5, 6, 7]),
    }


def query(rows: int = 3) -> dict[str, tf.Tensor]:
    zeros = tf.zeros([rows, 2])
    return {
        "present": tf.constant([[True, True], [True, False], [False, False]]),
        **dict.fromkeys(("age_seconds", "dwell_seconds", "scroll_depth"), zeros),
        "language": tf.constant([0, 1, 2]),
        "device": tf.constant([1, 0, 1]),
        "time_seconds": tf.zeros([rows], tf.int64),
    }


def members() -> list[tuple[Any, Any]]:
    seed_everything(2)
    pairs = [
        (ContentTower(WIDTHS[0], items=7), BehaviourTower(encoder="mean", languages=2)),
        (ContentTower(WIDTHS[1], use_text=False, items=7), BehaviourTower(encoder="mean")),
    ]
    rng = np.random.default_rng(3)
    for (content, behaviour), width in zip(pairs, WIDTHS, strict=True):
        content.build({"text": (None, 6)})
        behaviour.build({"history": (None, 2, width)})
        for tower in (content, behaviour):
            tower.set_weights([w + rng.normal(scale=0.3, size=w.shape).astype("f4") for w in tower.get_weights()])
    return pairs


def scores(content: Any, behaviour: Any) -> np.ndarray:
    table = content(items())
    history = tf.gather(table, tf.constant([[1, 4], [2, 0], [0, 0]]))
    return (behaviour({**query(), "history": history}) @ tf.transpose(table)).numpy()


@pytest.mark.parametrize("by", [None, "language", "device"])
def test_the_score_is_the_members_weighted_by_the_request(by: Any) -> None:
    pairs = members()
    alone = [scores(*pair) for pair in pairs]
    content = EnsembleContent([pair[0] for pair in pairs])
    behaviour = EnsembleBehaviour([pair[1] for pair in pairs], content.widths, by=by, slices=2 if by else 0)
    content.build({"text": (None, 6)})
    behaviour.build({"history": (None, 2, content.width)})
    np.testing.assert_allclose(scores(content, behaviour), sum(alone), atol=1e-4)
    weights = np.array([[0.5, 2.0], [1.0, 0.0], [0.0, 3.0]], np.float32)[: 3 if by else 1]
    behaviour.weight_table.assign(weights)
    row = np.zeros(3, int) if by is None else query()[by].numpy()
    expected = sum(weights[row][:, [place]] * alone[place] for place in range(2))
    np.testing.assert_allclose(scores(content, behaviour), expected, atol=1e-4)


def test_weights_by_category_are_the_item_s() -> None:
    pairs = members()
    content = EnsembleContent([pair[0] for pair in pairs], categories=2)
    content.build({"text": (None, 6)})
    content.weight_table.assign([[1.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
    found, given = content(items()).numpy(), items()
    assert not found[given["category"].numpy() == 1][:, : WIDTHS[0]].any()
    assert not found[given["category"].numpy() == 2][:, WIDTHS[0] :].any()
    np.testing.assert_allclose(found[0], np.r_[pairs[0][0](given)[0], pairs[1][0](given)[0]], atol=1e-6)


def test_weights_are_not_trained() -> None:
    pairs = members()
    behaviour = EnsembleBehaviour([pair[1] for pair in pairs], WIDTHS)
    behaviour.build({"history": (None, 2, sum(WIDTHS))})
    assert not any("weights" in weight.name for weight in behaviour.trainable_weights)
