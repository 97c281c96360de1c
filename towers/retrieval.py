"""The first stage inside the served graph: an exact index of the items, or ScaNN."""

from __future__ import annotations

import math

import numpy as np

from towers.runtime import tf, tfrs

# Candidates that ScaNN scores exactly, at least: what a user has read is among them and drops out.
_REORDERED = 1000
_SEARCHED = 0.2  # of the leaves


class ExactIndex(tf.Module):
    """Scores every item: a product with the whole matrix.

    Args:
        embeddings: Variable (N + 1, D); row 0 is no item.
        on_offer: Variable (N + 1,) bool, which may be recommended.

    Example:
        >>> import numpy as np
        >>> from towers import ExactIndex
        >>> from towers.runtime import tf
        >>> items = tf.Variable(np.eye(4, 3, -1, dtype=np.float32))  # N 3, D 3; row 0 is no item
        >>> index = ExactIndex(items, tf.Variable([False, True, True, True]))
        >>> scores, _ = index(tf.constant([[3.0, 2.0, 1.0]]), tf.constant([[1]]))  # row 1 has been read
        >>> int(tf.argmax(scores[0]))
        2
    """

    def __init__(self, embeddings: tf.Variable, on_offer: tf.Variable) -> None:
        super().__init__(name="exact_index")
        self._embeddings, self._on_offer = embeddings, on_offer

    def __call__(self, user_BxD: tf.Tensor, hidden_BxE: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Scores (B, N + 1), the lowest number for what is hidden (rows, 0 for none), and None: a place is its row."""
        # The large matrix first: the other way round, Eigen takes ten times as long for two to four users.
        scores_BxN = tf.transpose(tf.linalg.matmul(self._embeddings, user_BxD, transpose_b=True))
        lowest = scores_BxN.dtype.min
        scores_BxN = tf.where(self._on_offer, scores_BxN, lowest)
        rows_BxE = tf.broadcast_to(tf.range(tf.shape(hidden_BxE)[0])[:, None], tf.shape(hidden_BxE))
        places = tf.stack([tf.reshape(rows_BxE, [-1]), tf.reshape(hidden_BxE, [-1])], axis=1)
        nothing = tf.fill([tf.shape(places)[0]], lowest)
        return tf.tensor_scatter_nd_update(scores_BxN, places, nothing), None


class ScannIndex(tf.Module):
    """Scores items that are probably the best (Guo et al. 2020), by TFRS's ScaNN layer; for large catalogues.

    The graph then has ops of the package scann, which a stock TensorFlow Serving does not link. Items are partitioned
    into the square root of their number, a fifth of the partitions is searched, and the best by quantised scores are
    scored again exactly. A user who has read more than these gets fewer items.

    Args:
        embeddings: (N, D) float32, without row 0.
        on_offer: (N,) bool; the others are not in the index.
        least: Candidates that must fit in.

    Raises:
        ImportError: scann is not installed.

    Example:
        >>> import numpy as np
        >>> from towers import ScannIndex
        >>> from towers.runtime import tf
        >>> items = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
        >>> items /= np.linalg.norm(items, axis=1, keepdims=True)
        >>> index = ScannIndex(items, np.ones(300, bool), least=10)
        >>> scores, rows = index(tf.constant(items[:1]), tf.constant([[0]]))
        >>> int(rows[0, tf.argmax(scores[0])])  # the item itself, whose row is 1
        1
    """

    def __init__(self, embeddings: np.ndarray, on_offer: np.ndarray, least: int) -> None:
        super().__init__(name="scann_index")
        rows = 1 + np.flatnonzero(on_offer).astype(np.int32)
        leaves = max(1, round(math.sqrt(len(rows))))
        self._count = min(len(rows), max(_REORDERED, 4 * least))
        self._least = least
        layer = tfrs.layers.factorized_top_k.ScaNN(
            k=self._count,
            num_leaves=leaves,
            num_leaves_to_search=max(min(leaves, 20), math.ceil(leaves * _SEARCHED)),
            num_reordering_candidates=self._count,
            name="scann",
        )
        self._layer = layer.index(tf.constant(embeddings[on_offer]), tf.constant(rows))

    def __call__(self, user_BxD: tf.Tensor, hidden_BxE: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores (B, R) and rows (B, R); the lowest number, maybe of row 0, where there is none or it is hidden."""
        scores_BxR, rows_BxR = self._layer(user_BxD, k=self._count)
        lowest = scores_BxR.dtype.min
        hidden_BxR = tf.reduce_any(tf.equal(rows_BxR[:, :, None], hidden_BxE[:, None, :]), axis=-1)
        # Where too few partitions are searched to fill a row, ScaNN gives NaN, and fewer columns than it was asked for.
        scores_BxR = tf.where(tf.math.is_nan(scores_BxR) | hidden_BxR, lowest, scores_BxR)
        return (
            tf.pad(scores_BxR, [[0, 0], [0, self._least]], constant_values=lowest),
            tf.pad(rows_BxR, [[0, 0], [0, self._least]]),
        )
