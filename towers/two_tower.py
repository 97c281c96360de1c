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

# Of a batch, what says who the users are.
_USERS = {
    "history": tf.TensorSpec([None, None], tf.int32),
    **dict.fromkeys(("age_seconds", "dwell_seconds", "scroll_depth"), tf.TensorSpec([None, None], tf.float32)),
    **dict.fromkeys(("language", "device"), tf.TensorSpec([None], tf.int32)),
    "time_seconds": tf.TensorSpec([None], tf.int64),
}
# What the behaviour tower is given as the batch has it.
_BEHAVIOUR = [name for name in _USERS if name != "history"]


class TwoTower(keras.Model):
    """A Keras 3 model whose loss is `tfrs.tasks.Retrieval`.

    The score of a user and an item is the dot product of their embeddings. Up to three softmax losses are added:

    - `in_batch`: the positive against the other positives of the batch, with the logQ correction for their popularity
      (Yi et al. 2019), accidental hits removed, and items of the user's own history left out.
    - `shown`: the positive against what the same request showed and the user left (one row's own negatives only).
    - `catalogue`: the positive against every item that the user has not read. Exact where the others are samples, at
      the cost of embedding all N items in each step: for catalogues that last, of some ten thousand items.

    With `hard_negatives`, only that many negatives of each row count, those with the highest scores; in a row of the
    second loss, that is mostly all. A row's losses count by its weight.

    A batch may hold more positives than rows, those of its rows first: the others are negatives alone, and the loss is
    this share's part of a loss whose rows are the positives. So can several processes divide the rows of a batch.

    A row with no shown negatives adds nothing to the second loss, so interaction logs without impressions work too.

    Items come from an `ItemTable` of vectors that were encoded once. With a `text_top`, the items that a batch names in
    `encoded` are encoded by it, each once however often it occurs, and gradients reach its thawed layers; all others
    keep the vector of the table. The same holds of an `image_encoder` and the items in `pictured`.

    In training the table may end in `views`, rows of further inputs for items that stand before them. Positives and
    negatives can be embedded as one of them; in all else they stay the items that they are. A model with views shares
    its towers, built already, with the one without that is kept.

    Args:
        content: Candidate tower.
        behaviour: Query tower.
        items: What is known of each item of the catalogue.
        text_top: The upper layers of the text encoder, where they are fine-tuned.
        image_encoder: The image encoder, where it is fine-tuned.
        views: Rows at the end of `items` that are no items of the catalogue.
        in_batch_weight, shown_weight, catalogue_weight: Weights of the losses.
        hard_negatives: Negatives of each row that count; None is all.

    Call arguments: a dict with
        `history` (B, H) int32: rows of the item table, 0 for padding; oldest first.
        `age_seconds`, `dwell_seconds`, `scroll_depth` (B, H) float32, `language`, `device` (B,) int32,
        `time_seconds` (B,) int64: as the behaviour tower takes them.
        `positive` (P,) int32, `shown` (B, M) int32 (0 for padding), `probability` (P,) float32: share of the training
        positives that are this item, `weight` (B,) float32: of the row's losses. Only `call` without a loss works
        without these four.
        `view` (P,), `shown_view` (B, M) and with `catalogue` `all_view` (N + 1,) int32: with views, the rows of the
        item table as which `positive`, `shown` and all items, then those of histories too, are embedded.
        `read` (B, N + 1) bool: with `catalogue`, the items that are no negatives of a row.
        `encoded` (U,) int32, `states` (T, D) float32, `lengths` (U,) int32: with a `text_top` in training, the items to
        encode and their hidden states, as `pipelines.text_states` gives them.
        `pictured` (U,) int32, `pixels` (U, S, S, 3) uint8: with an `image_encoder` in training, likewise.
    Returns: the users' embeddings (B, D); in training also the vectors and embeddings that the loss is to share.

    Example:
        >>> import numpy as np
        >>> from towers import BehaviourTower, ContentTower, ItemTable, TwoTower
        >>> text, none = np.r_[np.zeros((1, 8)), np.eye(3, 8)], np.zeros(4, int)  # N 3, D 8
        >>> items = ItemTable.from_arrays(text, none, none[:, None], none, none)
        >>> model = TwoTower(ContentTower(8), BehaviourTower(encoder="mean"), items)
        >>> model.build({"history": (2, 2)})
        >>> signal, unknown = np.zeros((2, 2), np.float32), np.zeros(2, np.int32)
        >>> users = model(
        ...     {
        ...         "history": np.array([[1, 0], [2, 3]], np.int32),
        ...         "age_seconds": signal,
        ...         "dwell_seconds": signal,
        ...         "scroll_depth": signal,
        ...         "language": unknown,
        ...         "device": unknown,
        ...         "time_seconds": unknown.astype(np.int64),
        ...     }
        ... )
        >>> scores = users.numpy() @ model.embed_items(np.arange(1, 4)).numpy().T
        >>> scores[0].argmax().item() + 1  # the item that the first user has read is the nearest
        1
    """

    def __init__(
        self,
        content: ContentTower,
        behaviour: BehaviourTower,
        items: ItemTable,
        *,
        text_top: TextTop | None = None,
        image_encoder: ImageEncoder | None = None,
        views: int = 0,
        in_batch_weight: float = 1.0,
        shown_weight: float = 1.0,
        catalogue_weight: float = 0.0,
        hard_negatives: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max(in_batch_weight, shown_weight, catalogue_weight) <= 0:
            raise ValueError("one of in_batch_weight, shown_weight and catalogue_weight must be above zero")
        self.content = content
        self.behaviour = behaviour
        self.items = items
        self.text_top = text_top
        self.image_encoder = image_encoder
        self.views = views
        self.in_batch_weight = in_batch_weight
        self.shown_weight = shown_weight
        self.catalogue_weight = catalogue_weight
        # One graph each for all callers and sizes, without AutoGraph, which would go through Keras and find nothing.
        items_NxD = tf.TensorSpec([None, content.width], tf.float32)
        self.embed_users = tf.function(
            lambda batch: self(batch, training=False), input_signature=[_USERS], autograph=False
        )
        self.embed_users_by = tf.function(self._users, input_signature=[_USERS, items_NxD], autograph=False)
        self._in_batch = _task(hard_negatives, remove_accidental_hits=True)
        self._shown = _task(hard_negatives, remove_accidental_hits=False)
        self._catalogue = _task(hard_negatives, remove_accidental_hits=False)

    def build(self, shapes: dict[str, Any]) -> None:
        """Make all weights; `shapes` needs only that of `history`, (B, H)."""
        if self.content.built and self.behaviour.built:
            return
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
        all_NxD = self._all_items(batch, fresh) if training and self.catalogue_weight > 0 else None
        history_BxHxD = self._embed(batch["history"], training, fresh, all_NxD)
        user_BxD = self._behave(batch, history_BxHxD, training=training)
        # The loss needs the same vectors: an article is encoded once a step.
        return (user_BxD, fresh, all_NxD) if training else user_BxD

    def _users(self, batch: dict[str, tf.Tensor], items_NxD: tf.Tensor) -> tf.Tensor:
        """Users' embeddings (B, D), with those of all items (N + 1, D) given, so that none is computed twice."""
        return self._behave(batch, tf.gather(items_NxD, batch["history"]), training=False)

    def _behave(self, batch: dict[str, tf.Tensor], history_BxHxD: tf.Tensor, *, training: bool) -> tf.Tensor:
        inputs = {"history": history_BxHxD, "present": batch["history"] > 0}
        return self.behaviour({**inputs, **{name: batch[name] for name in _BEHAVIOUR}}, training=training)

    def _all_items(self, batch: dict[str, tf.Tensor], fresh: Fresh) -> tf.Tensor:
        """(N + 1, D) embeddings of a training step."""
        index = batch["all_view"] if "all_view" in batch else tf.range(self.items.rows - self.views)
        return self.embed_items(index, training=True, fresh=fresh)

    def _embed(self, index: tf.Tensor, training: bool, fresh: Fresh, all_NxD: tf.Tensor | None) -> tf.Tensor:
        if all_NxD is not None:
            return tf.gather(all_NxD, index)
        return self.embed_items(index, training=training, fresh=fresh)

    def _embed_as(
        self, view: str, name: str, batch: dict[str, tf.Tensor], training: bool, fresh: Fresh, all_NxD: tf.Tensor | None
    ) -> tf.Tensor:
        """Items of a batch end to end, as the views that it names where it does."""
        if view in batch:
            return self.embed_items(tf.reshape(batch[view], [-1]), training=training, fresh=fresh)
        return self._embed(tf.reshape(batch[name], [-1]), training, fresh, all_NxD)

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
        """Mean loss per positive of the batch. `x` is the batch and `y_pred` what `call` returned."""
        batch = x
        user_BxD, fresh, all_NxD = y_pred if isinstance(y_pred, tuple) else (y_pred, {}, None)
        weight_B = batch["weight"]
        positive_PxD = self._embed_as("view", "positive", batch, training, fresh, all_NxD)
        own_BxD = positive_PxD[: tf.shape(user_BxD)[0]]
        loss = tf.constant(0.0)
        if self.in_batch_weight > 0:
            loss += self.in_batch_weight * self._in_batch(
                user_BxD, positive_PxD, weight_B, batch["probability"], batch["positive"], unseen(batch)
            )
        if self.shown_weight > 0:
            shown_CxD = self._embed_as("shown_view", "shown", batch, training, fresh, all_NxD)
            candidates_CxD = tf.concat([own_BxD, shown_CxD], axis=0)
            loss += self.shown_weight * self._shown(
                user_BxD, candidates_CxD, weight_B, None, None, own_slate(batch["shown"])
            )
        if self.catalogue_weight > 0:
            # The positives come first, as TFRS has them; among all items they must not stand a second time.
            candidates_CxD = tf.concat([own_BxD, all_NxD], axis=0)
            allowed_BxC = tf.concat([tf.eye(tf.shape(user_BxD)[0], dtype=tf.bool), others(batch)], axis=1)
            loss += self.catalogue_weight * self._catalogue(user_BxD, candidates_CxD, weight_B, None, None, allowed_BxC)
        return loss / tf.cast(tf.shape(batch["positive"])[0], tf.float32)


def unseen(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """(B, P) bool: may the positive of row j be a negative of row i? Not if user i has already read it."""
    seen_BxP = tf.reduce_any(batch["history"][:, None, :] == batch["positive"][None, :, None], axis=-1)
    rows, positives = tf.unstack(tf.shape(seen_BxP))
    return tf.logical_or(tf.logical_not(seen_BxP), tf.eye(rows, positives, dtype=tf.bool))


def others(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """(B, N + 1) bool: may an item be a negative of a row? Neither padding, nor its positive, nor what was read."""
    items = tf.range(tf.shape(batch["read"])[1])
    own_B = batch["positive"][: tf.shape(batch["read"])[0]]
    return tf.logical_not(batch["read"]) & (items > 0) & (items[None] != own_B[:, None])


def own_slate(shown_BxM: tf.Tensor) -> tf.Tensor:
    """(B, B + B * M) bool: each row's candidates are its positive and its own shown items, padding left out."""
    rows = tf.shape(shown_BxM)[0]
    own_BxB = tf.eye(rows, dtype=tf.bool)
    own_BxBxM = tf.logical_and(own_BxB[:, :, None], (shown_BxM > 0)[None, :, :])
    return tf.concat([own_BxB, tf.reshape(own_BxBxM, [rows, -1])], axis=1)


def _task(hard_negatives: int | None, *, remove_accidental_hits: bool) -> Any:
    task = tfrs.tasks.Retrieval(num_hard_negatives=hard_negatives, remove_accidental_hits=remove_accidental_hits)

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
