"""Carries out a fine-tuning schedule while the two-tower model trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.progress import say
from pipelines.recipe import FineTuning
from pipelines.text_states import text_states, without_tokens


class FineTuner:
    """Thaws the text encoder's layers on time, and gives every batch the articles to encode.

    Args:
        model: A built `TwoTower` with a `text_top`.
        schedule: What thaws when.
        texts: (N,) texts of the catalogue.
        folder: For the frozen layers' output; the caller removes it.
        read: Rows of the item table, all above 0, whose vectors are read before training ends: those of histories,
            and what is judged. None is all rows. Only these are renewed after each epoch.
    """

    def __init__(
        self,
        model: Any,
        schedule: FineTuning,
        texts: np.ndarray,
        folder: Path,
        read: np.ndarray | None = None,
        token_dropout: float = 0.0,
    ) -> None:
        from towers.runtime import tf

        self.model, self.schedule, self.token_dropout = model, schedule, token_dropout
        self.top = model.text_top
        self.states = text_states(texts, self.top.encoder.value, self.top.cut, folder)
        self.all = np.arange(1, len(texts) + 1)
        self.read = self.all if read is None else read
        self._thawed: int | None = None
        self._start: list[np.ndarray] = []
        # Traced once, not at every renewal.
        self._encode = tf.function(
            lambda values, lengths: self.top(values, lengths, training=False),
            input_signature=[tf.TensorSpec([None, self.states.width]), tf.TensorSpec([None], tf.int32)],
        )

    def thaw(self, thawed: bool) -> None:
        self.top.thaw(self.top.cut if thawed else None)

    def begin(self, epoch: int) -> None:
        """Thaw what the schedule thaws in this epoch."""
        self._thaw_for(epoch)
        self._start = [weight.numpy() for weight in self.top.trainable_weights]

    def restore(self, epoch: int) -> None:
        """With the weights of an epoch's end loaded, be as `end` left it."""
        self._thaw_for(epoch)
        if self._thawed is not None:
            self.renew(self.read)

    def _thaw_for(self, epoch: int) -> None:
        first = self.schedule.lowest_thawed(epoch)
        if first != self._thawed:
            self._thawed = first
            self.top.thaw(first)
            # Keras keeps training what was trainable when its train function was made, and says nothing.
            self.model.make_train_function(force=True)
            trained = sum(int(np.prod(weight.shape)) for weight in self.top.trainable_weights)
            say(f"epoch {epoch}: layer {first} of the text encoder and those above are trained ({trained:,} weights)")

    def add_to(self, batch: dict[str, np.ndarray], rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """The batch with the articles that its step encodes, each once; `rng` draws the tokens that are dropped."""
        if self._thawed is None:
            return batch
        parts = [batch["positive"], batch["shown"].ravel()]
        if self.schedule.encode == "all":
            parts.append(batch["history"].ravel())
        rows = np.unique(np.concatenate(parts))
        given = self.states.of(rows[rows > 0])
        if self.token_dropout and rng is not None:
            given = without_tokens(given, self.token_dropout, rng)
        return {**batch, **given}

    def end(self) -> None:
        """Renew the vectors that are read before training ends.

        Raises:
            AssertionError: An epoch has moved none of the weights that it should have.
        """
        if self._thawed is None:
            return
        now = [weight.numpy() for weight in self.top.trainable_weights]
        still = sum(np.array_equal(old, new) for old, new in zip(self._start, now, strict=True))
        if still == len(now):
            raise AssertionError("the thawed layers were trained for an epoch, but no weight has moved")
        self.renew(self.read)

    def renew(self, rows: np.ndarray | None = None) -> None:
        """Encode articles, all or those of `rows`, with the layers as they are."""
        vectors = self.model.items.text.numpy()
        for block in self.states.blocks(self.all if rows is None else rows):
            given = self.states.of(block)
            vectors[given["encoded"]] = self._encode(given["states"], given["lengths"]).numpy()
        if not np.isfinite(vectors).all():
            raise AssertionError("the text encoder returned values that are not finite")
        self.model.items.text.assign(vectors)
