"""What the second stage is told about a user and a candidate, computed in one place for training and serving."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from towers.runtime import tf

# In the order of the last axis of `ranking_features`.
FEATURES = ("retrieval", "nearest", "category", "tags", "appeal", "click_rate", "clicks", "freshness", "history")
_NEAREST = 3
# Weight of an event of the history relative to the one after it, in category and tag affinity.
_DECAY = 0.95


@dataclass(frozen=True)
class Candidates:
    """C candidates of B users.

    Args:
        item: (B, C) int32, rows of the item table; 0 is padding.
        clicks: (B, C) float32, clicks on the item before the request.
        click_rate: (B, C) float32, log of the smoothed click rate before the request over the mean rate; 0 is average.
        age_hours: (B, C) float32, since publication; below 0 for unknown.
    """

    item: tf.Tensor
    clicks: tf.Tensor
    click_rate: tf.Tensor
    age_hours: tf.Tensor


@dataclass(frozen=True)
class RankedItems:
    """What is known of each of the N items, row by row; row 0 is padding.

    Args:
        embedding: (N + 1, D) float32, the candidate tower's.
        category: (N + 1,) int32, 0 for unknown.
        tags: (N + 1, T) int32, 0 for none.
        appeal: (N + 1,) float32, how attractive the content is to everybody.
    """

    embedding: tf.Tensor
    category: tf.Tensor
    tags: tf.Tensor
    appeal: tf.Tensor


def ranking_features(
    user_BxD: tf.Tensor,
    history_BxH: tf.Tensor,
    candidates: Candidates,
    items: RankedItems,
    *,
    unknown: tf.Tensor | float = float("nan"),
    for_device: bool = False,
) -> tf.Tensor:
    """Features of every user and candidate, (B, C, F) float32, F in the order of `FEATURES`.

    - `retrieval`: the first stage's score;
    - `nearest`: mean cosine with the three items of the history that are nearest;
    - `category`, `tags`: share of the history of the same category, or with a tag in common, recent events first;
    - `appeal`: the item's content for everybody;
    - `click_rate`, `clicks`: the item's popularity so far, the latter as log(1 + clicks);
    - `freshness`: -log(1 + hours since publication), `unknown` where that is not known;
    - `history`: log(1 + events of the history); the same for all candidates, so it matters in crosses only.

    A user without history gets 0 for what the history says. Does not standardise: `RankingTower` does.

    Args:
        for_device: Compute what LiteRT computes fast; the features are the same.
    """
    found_BxCxD = tf.gather(items.embedding, candidates.item)
    retrieval_BxC = tf.linalg.matvec(found_BxCxD, user_BxD)
    present_BxH = tf.cast(history_BxH > 0, tf.float32)
    category_BxCxH = tf.equal(
        tf.gather(items.category, candidates.item)[:, :, None], tf.gather(items.category, history_BxH)[:, None, :]
    ) & (tf.gather(items.category, candidates.item)[:, :, None] > 0)
    later_BxH = tf.cumsum(present_BxH, axis=1, reverse=True, exclusive=True)
    weight_BxH = present_BxH * tf.pow(_DECAY, later_BxH)
    weight_BxH = tf.math.divide_no_nan(weight_BxH, tf.reduce_sum(weight_BxH, axis=1, keepdims=True))
    events_Bx1 = tf.reduce_sum(present_BxH, axis=1, keepdims=True)
    return tf.stack(
        [
            retrieval_BxC,
            _nearest(found_BxCxD, tf.gather(items.embedding, history_BxH), present_BxH),
            tf.linalg.matvec(tf.cast(category_BxCxH, tf.float32), weight_BxH),
            tf.linalg.matvec(_shares_tag(items.tags, candidates.item, history_BxH, for_device=for_device), weight_BxH),
            tf.gather(items.appeal, candidates.item),
            candidates.click_rate,
            tf.math.log1p(candidates.clicks),
            tf.where(candidates.age_hours < 0, unknown, -tf.math.log1p(candidates.age_hours)),
            tf.broadcast_to(tf.math.log1p(events_Bx1), tf.shape(retrieval_BxC)),
        ],
        axis=-1,
    )


def _nearest(found_BxCxD: tf.Tensor, history_BxHxD: tf.Tensor, present_BxH: tf.Tensor) -> tf.Tensor:
    cosine_BxCxH = tf.linalg.matmul(
        tf.math.l2_normalize(found_BxCxD, axis=-1), tf.math.l2_normalize(history_BxHxD, axis=-1), transpose_b=True
    )
    masked_BxCxH = tf.where(present_BxH[:, None, :] > 0, cosine_BxCxH, -2.0)
    best_BxCxK = tf.math.top_k(masked_BxCxH, min(_NEAREST, history_BxHxD.shape[1])).values
    real_BxCxK = tf.cast(best_BxCxK > -1.5, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(best_BxCxK * real_BxCxK, axis=-1), tf.reduce_sum(real_BxCxK, axis=-1))


def _shares_tag(tags: tf.Tensor, item_BxC: tf.Tensor, history_BxH: tf.Tensor, *, for_device: bool) -> tf.Tensor:
    """(B, C, H) 1 where a candidate and an event have a tag in common."""
    candidates, events = tf.gather(tags, item_BxC), tf.gather(tags, history_BxH)
    # No event has a tag below 0.
    candidates = tf.where(candidates > 0, candidates, -1)
    if for_device:
        candidates, events = tf.cast(candidates, tf.float32), tf.cast(events, tf.float32)
    # Pair by pair: a device takes twenty times as long for all of them in one tensor.
    pairs = [
        (candidate_BxC[:, :, None], event_BxH[:, None, :])
        for candidate_BxC in tf.unstack(candidates, axis=-1)
        for event_BxH in tf.unstack(events, axis=-1)
    ]
    if not for_device:
        return tf.cast(functools.reduce(tf.logical_or, [tf.equal(*pair) for pair in pairs]), tf.float32)
    # The distance of whole numbers is 0 where they are equal. LiteRT compares twice as slowly as it subtracts;
    # TensorFlow is the other way round.
    apart_BxCxH = functools.reduce(tf.minimum, [tf.math.squared_difference(*pair) for pair in pairs])
    return tf.cast(tf.equal(apart_BxCxH, 0.0), tf.float32)
