"""The graph that is served: raw strings in, ids and scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.edge import EdgeFunctions
from towers.image import ImageEncoder
from towers.live_items import LiveItems, gather
from towers.retrieval import ExactIndex, ScannIndex
from towers.runtime import tf
from towers.served_ranker import ServedRanker
from towers.text import Fields, TextEncoder, encode_fields

_REQUEST = {
    "history_ids": tf.TensorSpec([None, None], tf.string, name="history_ids"),
    "history_age_seconds": tf.TensorSpec([None, None], tf.float32, name="history_age_seconds"),
    "history_dwell_seconds": tf.TensorSpec([None, None], tf.float32, name="history_dwell_seconds"),
    "history_scroll_depth": tf.TensorSpec([None, None], tf.float32, name="history_scroll_depth"),
    "language": tf.TensorSpec([None], tf.string, name="language"),
    "device": tf.TensorSpec([None], tf.string, name="device"),
    # Whole seconds, because float32 is off by up to a minute today.
    "time_seconds": tf.TensorSpec([None], tf.int64, name="time_seconds"),
}
_SIGNALS = ("age_seconds", "dwell_seconds", "scroll_depth")
_ITEM = {
    **{
        name: tf.TensorSpec([None], tf.string, name=name)
        for name in ("item_id", "title", "body", "language", "category", "image")
    },
    "tags": tf.TensorSpec([None, None], tf.string, name="tags"),
}


class Recommender(tf.Module):
    """Both towers, their vocabularies, the tokeniser and an index of N items, as signatures.

    An image is the bytes of a JPEG or PNG file, which are decoded in the graph; "" is none.
    An id, category, language or device that is not known counts as not given. Padding is "" for strings and 0 for
    numbers, and may stand anywhere in a row. A history is oldest first; its last H known events are used. The time of
    a request, `time_seconds`, is in whole seconds since 1970 (UTC); 0 is unknown.

    Args:
        content, behaviour: The trained towers.
        encoder: Text encoder, or None where the content tower uses no text.
        image_encoder: Image encoder, or None where it uses no images.
        fields: How title and body are read.
        item_ids: (N,) ids, sorted: among equal scores the smaller id comes first.
        embeddings: (N, D) the content tower's embeddings of these items.
        on_offer: (N,) bool, which of them may be recommended; the others only serve histories and `rank`.
        items, categories, tags, languages, devices: The towers' vocabularies; place i is index i + 1.
        tags_kept: T, the first distinct known tags of an item that count.
        history: H, events used.
        top_k: K, items that `recommend` returns; fewer where the catalogue is smaller.
        ranker: The second stage, where there is one.
        approximate: Whether ScaNN finds the candidates instead of an exact index.

    Example:
        >>> import numpy as np
        >>> from towers import BehaviourTower, ContentTower, Recommender
        >>> from towers.runtime import tf
        >>> content, behaviour = ContentTower(3, use_text=False, items=3), BehaviourTower(encoder="mean")
        >>> content.build({"item": (None,)})
        >>> behaviour.build({"history": (None, 2, 3)})
        >>> _ = content.embeddings["item"].assign(np.eye(4, 3, -1))
        >>> model = Recommender(
        ...     content,
        ...     behaviour,
        ...     None,
        ...     item_ids=["a", "b", "c"],
        ...     embeddings=np.eye(3, dtype=np.float32),
        ...     on_offer=np.array([True, True, True]),
        ...     items=["a", "b", "c"],
        ...     categories=[],
        ...     tags=[],
        ...     tags_kept=1,
        ...     languages=[],
        ...     devices=[],
        ...     history=2,
        ...     top_k=2,
        ... )
        >>> nothing = tf.zeros((1, 1))
        >>> answer = model.recommend(
        ...     history_ids=tf.constant([["a"]]),
        ...     history_age_seconds=nothing,
        ...     history_dwell_seconds=nothing,
        ...     history_scroll_depth=nothing,
        ...     language=tf.constant([""]),
        ...     device=tf.constant([""]),
        ...     time_seconds=tf.constant([0], tf.int64),
        ...     exclude_ids=tf.constant([["b"]]),
        ... )
        >>> answer["ids"].numpy().tolist()  # "a" was read, "b" is excluded
        [[b'c', b'']]
    """

    def __init__(
        self,
        content: ContentTower,
        behaviour: BehaviourTower,
        encoder: TextEncoder | None,
        *,
        image_encoder: ImageEncoder | None = None,
        fields: Fields = "joined",
        item_ids: Sequence[str],
        embeddings: np.ndarray,
        on_offer: np.ndarray,
        items: Sequence[str],
        categories: Sequence[str],
        tags: Sequence[str],
        tags_kept: int,
        languages: Sequence[str],
        devices: Sequence[str],
        history: int,
        top_k: int,
        ranker: ServedRanker | None = None,
        approximate: bool = False,
    ) -> None:
        super().__init__(name="recommender")
        if len(item_ids) != len(embeddings) or not len(item_ids):
            raise ValueError("the index needs one embedding per item, and at least one item")
        # Out of tf.Module's sight: it would save every weight of a Keras layer a second time.
        self.towers = SimpleNamespace(content=content, behaviour=behaviour, text=encoder, image=image_encoder)
        self._fields = fields
        self._history, self._tags = history, tags_kept
        self.top_k = min(top_k, len(item_ids))
        self.ranker = ranker
        self.edge: EdgeFunctions | None = None
        layers = [layer for layer in (content, behaviour, encoder, image_encoder) if layer is not None]
        # tf.Module finds tf.Variables only; Keras 3 wraps them.
        self.weights = [weight.value for layer in layers for weight in layer.weights]
        self.tokenizer = [] if encoder is None else encoder.resources
        padded = np.concatenate([np.zeros((1, embeddings.shape[1]), np.float32), embeddings])
        self.embeddings = tf.Variable(padded, trainable=False, name="item_embeddings")
        # Row 0 is no item.
        self.on_offer = tf.Variable([False, *on_offer], trainable=False, name="on_offer")
        self.item_ids = tf.Variable(["", *item_ids], trainable=False, name="item_ids")
        self.retrieval: ExactIndex | ScannIndex = ExactIndex(self.embeddings, self.on_offer)
        if approximate:
            self.retrieval = ScannIndex(embeddings, np.asarray(on_offer, bool), self.retrieved or self.top_k)
        self.index = _table(item_ids)
        vocabularies = {"item": items, "category": categories, "tags": tags, "language": languages, "device": devices}
        self.vocabularies = {name: _table(values) for name, values in vocabularies.items()}

    def signatures(self) -> dict[str, Callable[..., Any]]:
        """Concrete functions by signature name, for `tf.saved_model.save`."""
        ids = tf.TensorSpec([None, None], tf.string)
        asked = {**_REQUEST, "exclude_ids": tf.TensorSpec(ids.shape, ids.dtype, name="exclude_ids")}
        live = LiveItems.specs(self.embeddings.shape[1])
        candidates = tf.TensorSpec(ids.shape, ids.dtype, name="candidate_ids")
        recommend = _traced(self.recommend, **asked)
        return {
            "serving_default": recommend,
            "recommend": recommend,
            "recommend_live": _traced(self.recommend_live, **asked, **live),
            "rank": _traced(self.rank, **_REQUEST, candidate_ids=candidates),
            "embed_items": _traced(self.embed_items, **_ITEM),
            "embed_users": _traced(self.embed_users, **_REQUEST),
        }

    @property
    def retrieved(self) -> int:
        """C, candidates that the first stage hands to the second; 0 without one."""
        if self.ranker is None:
            return 0
        return min(max(self.ranker.retrieve, self.top_k), self.embeddings.shape[0] - 1)

    def add_edge_functions(self) -> None:
        """Keep what LiteRT and ONNX can convert as `edge`; a content tower that takes images has no such functions."""
        if self.towers.image is None:
            self.edge = EdgeFunctions(
                self.towers.content,
                self.towers.behaviour,
                self.towers.text,
                fields=self._fields,
                history=self._history,
                tags_kept=self._tags,
                ranker=self.ranker,
                candidates=self.retrieved,
            )

    def embed_users(self, **request: tf.Tensor) -> dict[str, tf.Tensor]:
        """History (B, H) and context (B,) to `embedding` (B, D)."""
        return {"embedding": self._user(request)}

    def embed_items(self, **item: tf.Tensor) -> dict[str, tf.Tensor]:
        """What is known of items, (B,) and `tags` (B, T), to `embedding` (B, D)."""
        inputs = {
            "category": self.vocabularies["category"].lookup(item["category"]),
            "tags": _first_distinct(self.vocabularies["tags"].lookup(item["tags"]), self._tags),
            "language": self.vocabularies["language"].lookup(item["language"]),
            "item": self.vocabularies["item"].lookup(item["item_id"]),
        }
        if self.towers.text is not None:
            inputs["text"] = encode_fields(self.towers.text, self._fields, item["title"], item["body"])
        if self.towers.image is not None:
            inputs["image"] = self.towers.image.encode(item["image"])
        return {"embedding": self.towers.content(inputs, training=False)}

    def recommend(self, **request: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best K items of the index for each user, (B, K): `ids` and `scores`.

        Neither the history nor `exclude_ids` (B, E) is recommended. Where fewer than K items are left, the rest is ""
        and 0. With a second stage, what the first one retrieves is ordered by it, and scores are log-odds: of a click,
        or the weighted sum of several tasks'.
        """
        return self._recommended(request, None)

    def recommend_live(self, **request: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same, of the index and of F items that come with the request: articles younger than the index.

        They may stand in the history too. One that the index has as well takes its place. See
        `towers.live_items.LiveItems` for the inputs.
        """
        tags_BxFxW = self.vocabularies["tags"].lookup(request["live_tags"])
        shape = tf.shape(tags_BxFxW)
        tags = _first_distinct(tf.reshape(tags_BxFxW, [shape[0] * shape[1], shape[2]]), self._tags)
        tags_BxFxT = tf.reshape(tags, [shape[0], shape[1], self._tags])
        return self._recommended(request, LiveItems.of(request, self.vocabularies["category"], tags_BxFxT))

    def _recommended(self, request: dict[str, tf.Tensor], live: LiveItems | None) -> dict[str, tf.Tensor]:
        history_BxH, user_BxD = self._history_and_user(request, live)
        hidden = tf.concat([request["history_ids"], request["exclude_ids"]], axis=1)
        index_hides = hidden if live is None else tf.concat([hidden, live.ids], axis=1)
        scores_BxM, rows_BxM = self.retrieval(user_BxD, self.index.lookup(index_hides))
        lowest = scores_BxM.dtype.min
        if live is not None:
            live_BxF = live.scores(user_BxD, hidden)
            scores_BxM = tf.concat([scores_BxM, live_BxF], axis=1)
            if rows_BxM is not None:
                rows_F = self.embeddings.shape[0] + tf.range(tf.shape(live_BxF)[1])
                rows_BxM = tf.concat([rows_BxM, tf.broadcast_to(rows_F, tf.shape(live_BxF))], axis=1)
        first_BxC, best_BxC = tf.math.top_k(scores_BxM, self.retrieved or self.top_k)
        if rows_BxM is not None:
            best_BxC = tf.gather(rows_BxM, best_BxC, batch_dims=1)
        scores_BxK, best_BxK = first_BxC, best_BxC
        if self.ranker is not None:
            judged_BxC = self.ranker.score(self._judge(user_BxD, history_BxH, best_BxC, request, live))
            scores_BxK, order_BxK = tf.math.top_k(tf.where(first_BxC > lowest, judged_BxC, lowest), self.top_k)
            best_BxK = tf.gather(best_BxC, order_BxK, batch_dims=1)
        found_BxK = scores_BxK > lowest
        ids_BxK = gather(self.item_ids, best_BxK, None if live is None else live.ids)
        return {"ids": tf.where(found_BxK, ids_BxK, ""), "scores": tf.where(found_BxK, scores_BxK, 0.0)}

    def rank(self, **request: tf.Tensor) -> dict[str, tf.Tensor]:
        """`scores` (B, C) of `candidate_ids` (B, C), in their order.

        Padding and an id not in the index count as an item of which nothing is known: 0, or with a second stage what
        that makes of it. There is then also the probability of each of its tasks, such as `click` (B, C), 0 for these.
        """
        history_BxH, user_BxD = self._history_and_user(request)
        item_BxC = self.index.lookup(request["candidate_ids"])
        if self.ranker is None:
            return {"scores": tf.linalg.matvec(gather(self.embeddings, item_BxC, None), user_BxD)}
        known_BxCx1 = tf.cast(item_BxC > 0, tf.float32)[..., None]
        judged_BxCxT = self._judge(user_BxD, history_BxH, item_BxC, request)
        probability_BxCxT = tf.math.sigmoid(judged_BxCxT) * known_BxCx1
        return {
            "scores": self.ranker.score(judged_BxCxT),
            **{task: probability_BxCxT[..., place] for place, task in enumerate(self.ranker.tasks)},
        }

    def _judge(
        self,
        user_BxD: tf.Tensor,
        history_BxH: tf.Tensor,
        item_BxC: tf.Tensor,
        request: dict[str, tf.Tensor],
        live: LiveItems | None = None,
    ) -> tf.Tensor:
        assert self.ranker is not None
        return self.ranker.log_odds(user_BxD, history_BxH, item_BxC, request["time_seconds"], self.embeddings, live)

    def _user(self, request: dict[str, tf.Tensor]) -> tf.Tensor:
        return self._history_and_user(request)[1]

    def _history_and_user(
        self, request: dict[str, tf.Tensor], live: LiveItems | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        count = self.embeddings.shape[0]
        ids_BxW = tf.pad(request["history_ids"], [[0, 0], [0, 1]], constant_values="")
        rows_BxW = self.index.lookup(ids_BxW)
        if live is not None:
            rows_BxW = live.rows(ids_BxW, rows_BxW, count)
        # Known events first, in their order; then the last H of them.
        order_BxW = tf.argsort(tf.cast(rows_BxW == 0, tf.int32), axis=1, stable=True)
        known_Bx1 = tf.reduce_sum(tf.cast(rows_BxW > 0, tf.int32), axis=1, keepdims=True)
        place_BxH = tf.maximum(known_Bx1 - self._history, 0) + tf.range(self._history)
        present_BxH = place_BxH < known_Bx1
        place_BxH = tf.gather(order_BxW, tf.minimum(place_BxH, tf.shape(order_BxW)[1] - 1), batch_dims=1)

        def window(values_BxW: tf.Tensor) -> tf.Tensor:
            return tf.gather(tf.pad(values_BxW, [[0, 0], [0, 1]]), place_BxH, batch_dims=1)

        history_BxH = tf.where(present_BxH, tf.gather(rows_BxW, place_BxH, batch_dims=1), 0)
        kept_BxH = tf.cast(present_BxH, tf.float32)
        user_BxD = self.towers.behaviour(
            {
                "history": gather(self.embeddings, history_BxH, None if live is None else live.embeddings),
                "present": present_BxH,
                **{name: window(request[f"history_{name}"]) * kept_BxH for name in _SIGNALS},
                "language": self.vocabularies["language"].lookup(request["language"]),
                "device": self.vocabularies["device"].lookup(request["device"]),
                "time_seconds": request["time_seconds"],
            },
            training=False,
        )
        return history_BxH, user_BxD


def _first_distinct(places_BxW: tf.Tensor, count: int) -> tf.Tensor:
    """The first `count` distinct places of each row that are not 0, in their order; (B, count), padded with 0."""
    same_BxWxW = tf.equal(places_BxW[:, :, None], places_BxW[:, None, :])
    width = tf.shape(places_BxW)[1]
    earlier_WxW = tf.linalg.band_part(tf.ones([width, width], tf.int32), -1, 0) - tf.eye(width, dtype=tf.int32)
    repeated_BxW = tf.reduce_any(same_BxWxW & tf.cast(earlier_WxW, tf.bool), axis=-1)
    kept_BxW = tf.where(repeated_BxW, 0, places_BxW)
    order_BxW = tf.argsort(tf.cast(tf.equal(kept_BxW, 0), tf.int32), axis=1, stable=True)
    ordered_BxW = tf.gather(kept_BxW, order_BxW, batch_dims=1)
    return tf.pad(ordered_BxW, [[0, 0], [0, count]])[:, :count]


def _traced(function: Callable[..., Any], **specs: tf.TensorSpec) -> Any:
    # AutoGraph has nothing to do here, and would go through Keras for it.
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _table(values: Sequence[str]) -> tf.lookup.StaticHashTable:
    # The padding is a key too, because a table must not be empty.
    keys = tf.constant(["", *values], tf.string)
    places = tf.range(len(values) + 1)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, places), default_value=0)
