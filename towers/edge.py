"""The parts of a recommender as functions of fixed shape, which runtimes without TensorFlow's string ops can run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from towers.behaviour import BehaviourTower
from towers.content import ContentTower
from towers.ensemble import EnsembleBehaviour, EnsembleContent
from towers.history_encoders import Recurrent
from towers.ranking_features import Candidates, RankedItems
from towers.runtime import tf
from towers.served_ranker import ServedRanker
from towers.text import Fields, TextEncoder, join_vectors, texts_of


class EdgeFunctions(tf.Module):
    """One user, one item, or one user's candidates at a time, from numbers to numbers: what LiteRT and ONNX convert.

    They hold no weights of their own: saved beside the signatures of a `towers.recommender.Recommender`, they share its
    variables. Recurrent layers are unrolled over the H events, because LiteRT's quantiser fails on a loop.

    `user`: `history` (1, H, D), `present`, `age_seconds`, `dwell_seconds`, `scroll_depth` (1, H) float32, `language`,
    `device` (1,) int32, `time_seconds` (1,) int64, to `embedding` (1, D).

    `content`: `token_ids`, `padding_mask` (F, L) int32 and `known` (F, 1) float32, 0 for an empty text, where there is
    a text encoder, and `category` (1,), `tags` (1, T), `language`, `item` (1,) int32, to `embedding` (1, D) and, with a
    second stage, `appeal` (1,). F is 2 where title and body are read separately, and 1 otherwise.

    `rank`, with a second stage: `user` (1, D), `history` (1, H) and `item` (1, C) int32, which are rows of the table
    `embedding` (R, D), `category` (R,), `tags` (R, T), `appeal` (R,) of R = 1 + H + C rows, of which row 0 is no item;
    `clicks`, `click_rate`, `age_hours` (1, C) float32, to `log_odds` (1, C, tasks) and `score` (1, C).

    `tokens`, with a text encoder: `title` and `body` (B,) strings to `token_ids` and `padding_mask` (B, F, L) int32 and
    `known` (B, F, 1) float32. It is not for conversion, but what a tokeniser outside of the graph must equal.

    Does not take images: the vector of an image comes from an encoder that is as large as all the rest.

    Args:
        content, behaviour: The trained towers.
        encoder: Text encoder, or None where the content tower uses no text.
        fields: How title and body are read.
        history: H.
        tags_kept: T.
        ranker: The second stage, where there is one.
        candidates: C.
    """

    def __init__(
        self,
        content: ContentTower | EnsembleContent,
        behaviour: BehaviourTower | EnsembleBehaviour,
        encoder: TextEncoder | None,
        *,
        fields: Fields = "joined",
        history: int,
        tags_kept: int,
        ranker: ServedRanker | None = None,
        candidates: int = 0,
    ) -> None:
        super().__init__(name="edge")
        # Out of tf.Module's sight, as in the recommender.
        self._kept = SimpleNamespace(content=content, behaviour=behaviour, encoder=encoder, ranker=ranker)
        self._fields = fields
        width, texts = content.width, 2 if fields == "separate" else 1
        with _unrolled(behaviour):
            self.user = _traced(
                self._user,
                history=((1, history, width), tf.float32),
                **dict.fromkeys(
                    ("present", "age_seconds", "dwell_seconds", "scroll_depth"), ((1, history), tf.float32)
                ),
                language=((1,), tf.int32),
                device=((1,), tf.int32),
                time_seconds=((1,), tf.int64),
            )
        self.tokens = None
        if encoder is not None:
            # First, because Keras warns of an encoder that is called before its tokeniser has ever been.
            self.tokens = _traced(self._tokens, title=((None,), tf.string), body=((None,), tf.string))
        text = {} if encoder is None else _text_shapes(texts, encoder.max_tokens)
        self.content = _traced(
            self._content,
            **text,
            category=((1,), tf.int32),
            tags=((1, tags_kept), tf.int32),
            language=((1,), tf.int32),
            item=((1,), tf.int32),
        )
        self.rank = None
        if ranker is not None:
            rows = 1 + history + candidates
            self.rank = _traced(
                self._rank,
                user=((1, width), tf.float32),
                history=((1, history), tf.int32),
                item=((1, candidates), tf.int32),
                **dict.fromkeys(("clicks", "click_rate", "age_hours"), ((1, candidates), tf.float32)),
                embedding=((rows, width), tf.float32),
                category=((rows,), tf.int32),
                tags=((rows, tags_kept), tf.int32),
                appeal=((rows,), tf.float32),
            )

    def _user(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs["present"] = inputs["present"] > 0
        return {"embedding": self._kept.behaviour(inputs, training=False)}

    def _content(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        encoder: TextEncoder | None = self._kept.encoder
        if encoder is not None:
            token_ids, known = inputs.pop("token_ids"), inputs.pop("known")
            # The first token is always there: without one, the mean over tokens would not be a number.
            first_token = tf.one_hot([0], token_ids.shape[1], dtype=tf.int32)
            tokens = {"token_ids": token_ids, "padding_mask": tf.maximum(inputs.pop("padding_mask"), first_token)}
            if "segment_ids" in encoder.backbone.input:
                tokens["segment_ids"] = tf.zeros_like(token_ids)
            vectors = encoder(tokens) * known
            inputs["text"] = vectors if self._fields != "separate" else join_vectors(vectors[:1], vectors[1:])
        embedding = self._kept.content(inputs, training=False)
        ranker: ServedRanker | None = self._kept.ranker
        if ranker is None:
            return {"embedding": embedding}
        return {"embedding": embedding, "appeal": ranker.appeal_of(embedding, inputs["category"])}

    def _rank(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        ranker: ServedRanker = self._kept.ranker
        items = RankedItems(inputs["embedding"], inputs["category"], inputs["tags"], inputs["appeal"])
        candidates = Candidates(inputs["item"], inputs["clicks"], inputs["click_rate"], inputs["age_hours"])
        # Calibration of a quantised graph has no place for NaN.
        log_odds = ranker.judge(inputs["user"], inputs["history"], candidates, items, for_device=True)
        return {"log_odds": log_odds, "score": ranker.score(log_odds)}

    def _tokens(self, title: tf.Tensor, body: tf.Tensor) -> dict[str, tf.Tensor]:
        texts = texts_of(self._fields, title, body)
        found = [self._kept.encoder.tokenize(text) for text in texts]
        return {
            "token_ids": tf.stack([tf.cast(each["token_ids"], tf.int32) for each in found], axis=1),
            "padding_mask": tf.stack([tf.cast(each["padding_mask"], tf.int32) for each in found], axis=1),
            "known": tf.stack([tf.cast(tf.strings.length(text) > 0, tf.float32) for text in texts], axis=1)[..., None],
        }


def _text_shapes(texts: int, length: int) -> dict[str, Any]:
    return {
        "token_ids": ((texts, length), tf.int32),
        "padding_mask": ((texts, length), tf.int32),
        "known": ((texts, 1), tf.float32),
    }


def _traced(function: Callable[..., Any], **inputs: Any) -> Any:
    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    # AutoGraph has nothing to do here, and would go through Keras for it.
    return tf.function(function, autograph=False).get_concrete_function(**specs)


@contextmanager
def _unrolled(behaviour: Any) -> Iterator[None]:
    """Recurrent layers of a query tower, or of an ensemble's, are traced without a loop inside the block."""
    towers = getattr(behaviour, "members", [behaviour])
    encoders = [getattr(tower, "encoder", None) for tower in towers]
    layers = [encoder.recurrent for encoder in encoders if isinstance(encoder, Recurrent)]
    try:
        for layer in layers:
            layer.unroll = True
        yield
    finally:
        for layer in layers:
            layer.unroll = False
