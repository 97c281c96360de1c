"""Two-tower model: query and candidate towers, trained by TFRS's retrieval task."""

from __future__ import annotations

from typing import Any, TypeAlias

from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.features import ItemTable
from towers.finetuning import TextTop
from towers.image import ImageEncoder
from towers.runtime import keras, tf, tfrs

# By name of a vector: rows of the item table (U,), and their vectors (U, T) of this step.
Fresh: TypeAlias = dict[str, tuple[tf.Tensor, tf.Tensor]]

# What the behaviour tower is given as the batch has it.
_BEHAVIOUR = ("age_seconds", "dwell_seconds", "scroll_depth", "language", "device", "time_seconds")


class TwoTower(keras.Model):
    """A Keras 3 model whose loss is `tfrs.tasks.Retrieval`.

    The score of a user and an item is the dot product of their embeddings. Two softmax losses are added:

    - `in_batch`: the positive against the other positives of the batch, with the logQ correction for their popularity
      (Yi et al. 2019), accidental hits removed, and items of the user's own history left out.
    - `shown`: the positive against what the same request showed and the user left (one row's own negatives only).

    A row with no shown negatives adds nothing to the second loss, so interaction logs without impressions work too.

    Items come from an `ItemTable` of vectors that were encoded once. With a `text_top`, the items that a batch names in
    `encoded` are encoded by it, each once however often it occurs, and gradients reach its thawed layers; all others
    keep the vector of the table. The same holds of an `image_encoder` and the items in `pictured`.

    Args:
        content: Candidate tower.
        behaviour: Query tower.
        items: What is known of each item of the catalogue.
        text_top: The upper layers of the text encoder, where they are fine-tuned.
        image_encoder: The image encoder, where it is fine-tuned.
        in_batch_weight, shown_weight: Weights of the two losses.

    Call arguments: a dict with
        `history` (B, H) int32: rows of the item table, 0 for padding; oldest first.
        `age_seconds`, `dwell_seconds`, `scroll_depth` (B, H) float32, `language`, `device` (B,) int32,
        `time_seconds` (B,) int64: as the behaviour tower takes them.
        `positive` (B,) int32, `shown` (B, M) int32 (0 for padding), `probability` (B,) float32: share of the training
        positives that are this item. Only `call` without a loss works without these three.
        `encoded` (U,) int32, `states` (T, D) float32, `lengths` (U,) int32: with a `text_top` in training, the items to
        encode and their hidden states, as `pipelines.text_states` gives them.
        `pictured` (U,) int32, `pixels` (U, S, S, 3) uint8: with an `image_encoder` in training, likewise.
    Returns: the users' embeddings (B, D); in training with `encoded`, also what was encoded.
    """

    def __init__(
        self,
        content: ContentTower,
        behaviour: BehaviourTower,
        items: ItemTable,
        *,
        text_top: TextTop | None = None,
        image_encoder: ImageEncoder | None = None,
        in_batch_weight: float = 1.0,
        shown_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if in_batch_weight <= 0 and shown_weight <= 0:
            raise ValueError("one of in_batch_weight and shown_weight must be above zero")
        self.content = content
        self.behaviour = behaviour
        self.items = items
        self.text_top = text_top
        self.image_encoder = image_encoder
        self.in_batch_weight = in_batch_weight
        self.shown_weight = shown_weight
        # One graph for all callers; a new one per caller would be traced again and again.
        self.embed_users = tf.function(lambda batch: self(batch, training=False), reduce_retracing=True)
        self._in_batch = _task(remove_accidental_hits=True)
        self._shown = _task(remove_accidental_hits=False)

    def build(self, shapes: dict[str, Any]) -> None:
        """Make all weights; `shapes` needs only that of `history`, (B, H)."""
        self.content.build({"text": (None, self.items.text.shape[-1]), "image": (None, self.items.image.shape[-1])})
        self.behaviour.build({"history": (*shapes["history"], self.content.width)})

    def embed_items(self, index: tf.Tensor, training: bool = False, fresh: Fresh | None = None) -> tf.Tensor:
        """Rows of the item table (...) to embeddings (..., D); row 0, the padding, is the zero vector.

        Args:
            fresh: Vectors that count instead of the table's.
        """
        present = index > 0
        inputs = self.items.gather(index)
        for name, (rows_U, vectors_UxT) in (fresh or {}).items():
            places = tf.range(1, tf.shape(rows_U)[0] + 1)
            place = tf.gather(tf.scatter_nd(rows_U[:, None], places, [self.items.rows]), index)
            renewed = tf.gather(vectors_UxT, tf.maximum(place - 1, 0))
            inputs[name] = tf.where((place > 0)[..., None], renewed, inputs[name])
        return self.content(inputs, present, training=training) * tf.cast(present, tf.float32)[..., None]

    def call(self, batch: dict[str, tf.Tensor], training: bool = False) -> Any:
        fresh = self._encode(batch) if training else {}
        user_BxD = self.behaviour(
            {
                "history": self.embed_items(batch["history"], training=training, fresh=fresh),
                "present": batch["history"] > 0,
                **{name: batch[name] for name in _BEHAVIOUR},
            },
            training=training,
        )
        # The loss needs the same vectors: an article is encoded once a step.
        return (user_BxD, fresh) if fresh else user_BxD

    def _encode(self, batch: dict[str, tf.Tensor]) -> Fresh:
        """What a training step encodes itself."""
        fresh = {}
        if self.text_top is not None and "encoded" in batch:
            fresh["text"] = batch["encoded"], self.text_top(batch["states"], batch["lengths"], training=True)
        if self.image_encoder is not None and "pictured" in batch:
            fresh["image"] = batch["pictured"], self.image_encoder(batch["pixels"], training=True)
        return fresh

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Mean loss per row of the batch. `x` is the batch and `y_pred` what `call` returned."""
        batch = x
        user_BxD, fresh = y_pred if isinstance(y_pred, tuple) else (y_pred, {})
        positive_BxD = self.embed_items(batch["positive"], training=training, fresh=fresh)
        rows = tf.cast(tf.shape(user_BxD)[0], tf.float32)
        loss = tf.constant(0.0)
        if self.in_batch_weight > 0:
            loss += self.in_batch_weight * self._in_batch(
                user_BxD, positive_BxD, sample_weight, batch["probability"], batch["positive"], unseen(batch)
            )
        if self.shown_weight > 0:
            shown_NxD = self.embed_items(tf.reshape(batch["shown"], [-1]), training=training, fresh=fresh)
            candidates_CxD = tf.concat([positive_BxD, shown_NxD], axis=0)
            loss += self.shown_weight * self._shown(
                user_BxD, candidates_CxD, sample_weight, None, None, own_slate(batch["shown"])
            )
        return loss / rows


def unseen(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """(B, B) bool: may the positive of row j be a negative of row i? Not if user i has already read it."""
    seen_BxB = tf.reduce_any(batch["history"][:, None, :] == batch["positive"][None, :, None], axis=-1)
    return tf.logical_or(tf.logical_not(seen_BxB), tf.eye(tf.shape(seen_BxB)[0], dtype=tf.bool))


def own_slate(shown_BxM: tf.Tensor) -> tf.Tensor:
    """(B, B + B * M) bool: each row's candidates are its positive and its own shown items, padding left out."""
    rows = tf.shape(shown_BxM)[0]
    own_BxB = tf.eye(rows, dtype=tf.bool)
    own_BxBxM = tf.logical_and(own_BxB[:, :, None], (shown_BxM > 0)[None, :, :])
    return tf.concat([own_BxB, tf.reshape(own_BxBxM, [rows, -1])], axis=1)


def _task(*, remove_accidental_hits: bool) -> Any:
    task = tfrs.tasks.Retrieval(remove_accidental_hits=remove_accidental_hits)

    # TFRS relies on AutoGraph, which Keras 3 turns off inside `fit`: a tf.function of its own brings it back.
    @tf.function
    def loss(users: Any, candidates: Any, weight: Any, probability: Any, ids: Any, mask: Any) -> Any:
        return task(
            users,
            candidates,
            sample_weight=weight,
            candidate_sampling_probability=probability,
            candidate_ids=ids,
            score_mask=mask,
            compute_metrics=False,
            compute_batch_metrics=False,
        )

    return loss
