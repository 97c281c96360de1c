"""The second stage inside the served graph."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from towers.appeal import ContentAppeal
from towers.live_items import LiveItems, gather
from towers.ranker import RankingTower
from towers.ranking_features import Candidates, RankedItems, ranking_features
from towers.runtime import tf

_HOUR = 3600.0


class ServedRanker(tf.Module):
    """A trained ranking tower with what it is told of each item of the index, as of the export.

    Popularity does not move after the export: a fresh one comes with the next version.

    Args:
        tower: The trained tower.
        content_appeal: The appeal of content that the index does not have.
        category: (N + 1,) int32. Row 0 of every table is no item.
        tags: (N + 1, T) int32.
        appeal, clicks, click_rate: (N + 1,) float32.
        published_at: (N + 1,) int64, seconds since 1970, 0 for unknown.
        retrieve: Candidates that the first stage hands over.
    """

    def __init__(
        self,
        tower: RankingTower,
        content_appeal: ContentAppeal,
        *,
        category: np.ndarray,
        tags: np.ndarray,
        appeal: np.ndarray,
        clicks: np.ndarray,
        click_rate: np.ndarray,
        published_at: np.ndarray,
        retrieve: int,
    ) -> None:
        super().__init__(name="ranker")
        # Out of tf.Module's sight, like the other towers.
        self._kept = SimpleNamespace(tower=tower, content_appeal=content_appeal)
        self.tasks = tower.tasks
        self.retrieve = retrieve
        self.weights = [weight.value for weight in (*tower.weights, *content_appeal.weights)]
        self.category = tf.Variable(category, trainable=False, dtype=tf.int32, name="category")
        self.tags = tf.Variable(tags, trainable=False, dtype=tf.int32, name="tags")
        self.appeal = tf.Variable(appeal, trainable=False, dtype=tf.float32, name="appeal")
        self.clicks = tf.Variable(clicks, trainable=False, dtype=tf.float32, name="clicks")
        self.click_rate = tf.Variable(click_rate, trainable=False, dtype=tf.float32, name="click_rate")
        self.published_at = tf.Variable(published_at, trainable=False, dtype=tf.int64, name="published_at")

    @property
    def tower(self) -> RankingTower:
        """The trained tower."""
        return self._kept.tower

    def appeal_of(self, embedding: tf.Tensor, category: tf.Tensor) -> tf.Tensor:
        """(...) of items that the index does not have, from embeddings (..., D) and categories (...)."""
        return self._kept.content_appeal(embedding, category)

    def log_odds(
        self,
        user_BxD: tf.Tensor,
        history_BxH: tf.Tensor,
        item_BxC: tf.Tensor,
        time_B: tf.Tensor,
        embeddings: tf.Tensor,
        live: LiveItems | None = None,
    ) -> tf.Tensor:
        """Calibrated log-odds (B, C, tasks) of `item_BxC`, rows of the index, at `time_B` int64 seconds since 1970.

        A time of 0 is not known, and no item is fresher than another then.

        Args:
            live: What rows beyond the index are.
        """
        published_BxC = gather(self.published_at, item_BxC, None if live is None else live.published_at)
        age_BxC = tf.cast(tf.maximum(time_B[:, None] - published_BxC, 0), tf.float32) / _HOUR
        known_BxC = (published_BxC != 0) & (time_B[:, None] > 0)
        # Of a live item nothing is known yet: no clicks, and the average rate.
        nothing = None if live is None else tf.zeros(tf.shape(live.ids))
        clicks_BxC = gather(self.clicks, item_BxC, nothing)
        click_rate_BxC = gather(self.click_rate, item_BxC, nothing)
        if live is None:
            items = RankedItems(tf.convert_to_tensor(embeddings), self.category, self.tags, self.appeal)
        else:
            items, history_BxH, item_BxC = self._beside(live, embeddings, history_BxH, item_BxC)
        age_BxC = tf.where(known_BxC, age_BxC, -1.0)
        return self.judge(user_BxD, history_BxH, Candidates(item_BxC, clicks_BxC, click_rate_BxC, age_BxC), items)

    def _beside(
        self, live: LiveItems, embeddings: tf.Tensor, history_BxH: tf.Tensor, item_BxC: tf.Tensor
    ) -> tuple[RankedItems, tf.Tensor, tf.Tensor]:
        """A table of the histories and candidates of this batch alone, and their rows in it."""
        rows_BxW = tf.concat([history_BxH, item_BxC], axis=1)
        appeal_BxF = self.appeal_of(live.embeddings, live.category)

        def column(table: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
            found = gather(table, rows_BxW, own)
            flat = tf.reshape(found, tf.concat([[-1], tf.shape(found)[2:]], axis=0))
            return tf.concat([tf.zeros_like(flat[:1]), flat], axis=0)

        items = RankedItems(
            tf.ensure_shape(column(embeddings, live.embeddings), [None, embeddings.shape[1]]),
            column(self.category, live.category),
            tf.ensure_shape(column(self.tags, live.tags), [None, self.tags.shape[1]]),
            column(self.appeal, appeal_BxF),
        )
        place_BxW = tf.reshape(1 + tf.range(tf.size(rows_BxW)), tf.shape(rows_BxW))
        place_BxW = tf.where(rows_BxW > 0, place_BxW, 0)
        length = history_BxH.shape[1]
        return items, place_BxW[:, :length], place_BxW[:, length:]

    def judge(
        self,
        user_BxD: tf.Tensor,
        history_BxH: tf.Tensor,
        candidates: Candidates,
        items: RankedItems,
        *,
        for_device: bool = False,
    ) -> tf.Tensor:
        """The same (B, C, tasks) of any candidates in any table of items; histories are rows of it.

        Args:
            for_device: The same result by a graph without NaN, of what LiteRT computes fast; the mean takes the place
                of what is not known before the tower does that.
        """
        unknown = self.tower.mean_of("freshness") if for_device else float("nan")
        features_BxCxF = ranking_features(
            user_BxD, history_BxH, candidates, items, unknown=unknown, for_device=for_device
        )
        found_BxCxD = tf.gather(items.embedding, candidates.item)
        return self.tower.log_odds({"features": features_BxCxF, "user": user_BxD, "items": found_BxCxD})

    def score(self, log_odds_BxCxT: tf.Tensor) -> tf.Tensor:
        """What items are ordered by (B, C)."""
        return self.tower.score(log_odds_BxCxT)
