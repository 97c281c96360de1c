"""Continued pre-training: the text encoder learns a publisher's words before it learns what readers click."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_folder, check_folder, write_json
from pipelines.data.catalogue import Catalogue
from pipelines.data.dataset import Dataset
from pipelines.encode import load_encoder
from pipelines.errors import BadInput
from pipelines.presets import fingerprint, locate_preset
from pipelines.progress import say, track
from pipelines.recipe import Text
from pipelines.result import Result

PRETRAINING = "pretraining.json"
# What keras-hub writes of a preset, beside ours.
FILES = (PRETRAINING, "config.json", "metadata.json", "model.weights.h5", "tokenizer.json", "assets")

_HEAD_RATE, _HEAD_EPOCHS, _HEAD_GAIN = 1e-3, 10, 0.02
_WARMUP, _WEIGHT_DECAY = 0.1, 0.01
_WITHOUT_DECAY = ("bias", "gamma", "beta", "layer_norm")


def pretrain(
    dataset: Dataset,
    out: Path | str,
    *,
    preset: str = "minilm",
    epochs: int = 1,
    batch_size: int = 32,
    learning_rate: float = 2e-5,
    max_tokens: int = 64,
    validation: float = 0.1,
    seed: int = 17,
) -> Result:
    """Train the encoder `preset` on masked words of a dataset's texts, and write the preset folder `out`.

    The head that guesses the words starts untrained, and its first gradients would wreck the encoder: it is trained
    alone until that brings little. This is epoch 0; then both are trained together. The epoch kept is the one with the
    lowest loss on texts held out, whose masks are the same each time. The folder also holds pretraining.json, which
    this function returns: losses in nats a masked token, their perplexity, and what the texts were.

    Reads no more of a text than `max_tokens`. Does not judge the vectors: a sentence encoder may rank worse after it.

    Args:
        dataset: Whose items' titles and bodies are read.
        out: The preset folder to make.
        preset: `minilm`, a preset folder, or a name that keras-hub knows.
        epochs: Of head and encoder together.
        batch_size: Texts a step.
        learning_rate: Of the encoder.
        max_tokens: L, tokens kept of a text.
        seed: From 0.
        validation: The share of the distinct texts that is held out.

    Raises:
        BadInput: There is too little text, the preset cannot guess masked words, `out` is somebody's folder, training
            diverged, or no epoch was better than epoch 0: nothing is written then.

    Example:
        >>> from pipelines import Dataset, pretrain
        >>> result = pretrain(Dataset.open("data"), "preset", epochs=1)  # minutes  # doctest: +SKIP
        >>> recipe = Recipe.shipped("text").changed({"features.text.preset": "preset"})  # doctest: +SKIP
    """
    out = Path(out)
    check_folder(out, replaces=FILES)
    if not 0 < learning_rate < math.inf:
        raise BadInput(f"the learning rate must be above 0, not {learning_rate}.")
    texts = Catalogue.load(dataset).text
    distinct = np.unique(texts[texts != ""])  # objects: an array of str gives every text the room of the longest
    held = round(validation * len(distinct))
    if not 0 < held < len(distinct):
        raise BadInput(
            f"{dataset.info.name} has {len(distinct):,} distinct texts, of which {held:,} would be held out: there "
            "must be some of both; give more texts or another share."
        )
    empty = int((texts == "").sum())
    say(
        f"{len(distinct):,} distinct texts of {len(texts):,} items, {held:,} of them held out"
        + (f" (items without text: {empty:,})" if empty else "")
    )
    from towers.runtime import seed_everything

    seed_everything(seed)
    encoder = load_encoder(Text(preset=preset, max_tokens=max_tokens))
    order = np.random.default_rng(seed).permutation(len(distinct))
    parts = [_Texts(distinct[rows], encoder, batch_size, seed) for rows in (order[held:], order[:held])]
    with atomic_folder(out, replaces=FILES) as draft:
        found = _fit(encoder, *parts, epochs=epochs, learning_rate=learning_rate, preset=preset)
        found = {
            "preset": preset,
            "weights": fingerprint(locate_preset(preset)),
            "dataset": dataset.info.name,
            "texts": len(distinct) - held,
            "held_out_texts": held,
            "items_without_text": empty,
            "settings": {
                "epochs": epochs,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
                "max_tokens": max_tokens,
                "validation": validation,
                "seed": seed,
            },
            **found,
        }
        encoder.backbone.save_to_preset(str(draft))
        encoder.preprocessor.tokenizer.save_to_preset(str(draft))
        _verify(draft, encoder, max_tokens, parts[1].texts[:8])
        write_json(draft / PRETRAINING, found)
    return Result(found, pretraining_lines)


def pretraining_lines(result: dict[str, Any]) -> list[str]:
    """What it was worth, as plain text."""
    before, best = result["perplexity"][0], result["perplexity"][result["best_epoch"]]
    return [
        f"epoch {result['best_epoch']} of {result['settings']['epochs']} kept: held-out perplexity of masked words "
        f"{before:.1f} before, {best:.1f} after"
    ]


class _Texts:
    """Texts as tokens (N, L), and how they make batches of similar length."""

    def __init__(self, texts: np.ndarray, encoder: Any, batch_size: int, seed: int) -> None:
        from towers.runtime import tf

        self.texts, self.seed = texts, seed
        starts = range(0, len(texts), 1024)
        found = [encoder.tokenize(tf.constant(list(texts[start : start + 1024]))) for start in starts]
        self.tokens = {name: np.concatenate([each[name].numpy() for each in found]) for name in found[0]}
        self.lengths = self.tokens["padding_mask"].sum(axis=1)
        self._cuts = np.arange(batch_size, len(texts), batch_size)

    def __len__(self) -> int:
        return len(self._cuts) + 1

    def signature(self) -> list[Any]:
        """What a batch is made of, so that steps are traced once for all shapes."""
        from towers.runtime import tf

        tokens = {name: tf.TensorSpec([None, None], value.dtype) for name, value in self.tokens.items()}
        return [tokens, tf.TensorSpec([2], tf.int32)]

    def batches(self, epoch: int | None) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Tokens (B, L) and the seed (2,) of their masks; None for the same batches and masks every time."""
        rng = np.random.default_rng([self.seed, 0 if epoch is None else epoch + 1])
        # Texts of one length change their company from epoch to epoch.
        order = np.lexsort((rng.random(len(self.lengths)), self.lengths))
        blocks = np.split(order, self._cuts)
        if epoch is not None:
            blocks = [blocks[place] for place in rng.permutation(len(blocks))]
        seeds = rng.integers(2**31, size=(len(blocks), 2), dtype=np.int32)
        return [
            ({name: value[rows, : self.lengths[rows].max()] for name, value in self.tokens.items()}, seeds[place])
            for place, rows in enumerate(blocks)
        ]


def _fit(
    encoder: Any, train: _Texts, held_out: _Texts, *, epochs: int, learning_rate: float, preset: str
) -> dict[str, Any]:
    from towers.masked_language_model import MaskedLanguageModel

    try:
        model = MaskedLanguageModel(encoder)
    except ValueError as error:
        raise BadInput(f"{preset!r} cannot be trained on: {error}.") from None
    encoder.backbone.trainable = True
    steps = _Steps(model, train.signature())
    untrained = before = steps.loss(held_out)
    for epoch in range(_HEAD_EPOCHS):
        steps.head_epoch(train, epoch)
        last, before = before, steps.loss(held_out)
        say(f"head alone, epoch {epoch + 1}: held-out loss {before:.4f}")
        if before > last * (1 - _HEAD_GAIN):
            break
    say(f"epoch 0 (the encoder as it is): held-out loss {before:.4f}, perplexity {math.exp(before):.1f}")
    start = best_weights = encoder.backbone.get_weights()
    steps.begin(learning_rate, warmup=max(1, round(_WARMUP * len(train) * epochs)))
    by_epoch, best_epoch = [before], 0
    for epoch in range(1, epochs + 1):
        loss = steps.epoch(train, _HEAD_EPOCHS + epoch, f"epoch {epoch} of {epochs}")
        by_epoch.append(steps.loss(held_out))
        if not np.isfinite([loss, by_epoch[-1]]).all():
            raise BadInput(f"training diverged in epoch {epoch} (the loss is not finite): lower the learning rate.")
        say(
            f"epoch {epoch}: loss {loss:.4f}, held-out loss {by_epoch[-1]:.4f}, perplexity {math.exp(by_epoch[-1]):.1f}"
        )
        if by_epoch[-1] < by_epoch[best_epoch]:
            best_epoch, best_weights = epoch, encoder.backbone.get_weights()
    if all(np.array_equal(old, new) for old, new in zip(start, encoder.backbone.get_weights(), strict=True)):
        raise AssertionError("the encoder was trained, but no weight has moved")
    if not best_epoch:
        raise BadInput(
            "no epoch guessed the held-out words better than the encoder as it was: nothing is written; lower the "
            "learning rate or give more texts."
        )
    encoder.backbone.set_weights(best_weights)
    return {
        "best_epoch": best_epoch,
        "masked_tokens_held_out": steps.counted,
        "untrained_head_loss": untrained,
        "loss": by_epoch,
        "perplexity": [math.exp(each) for each in by_epoch],
    }


class _Steps:
    """The compiled steps: of the head alone, of all weights, and of judging."""

    def __init__(self, model: Any, signature: list[Any]) -> None:
        from towers.finetuning import LayerwiseAdamW
        from towers.runtime import tf

        self.model, self._signature = model, signature
        self.counted = 0
        optimizer = LayerwiseAdamW(_HEAD_RATE, weight_decay=_WEIGHT_DECAY, without_decay=_WITHOUT_DECAY)
        self._head_step = self._step(optimizer, model.head_weights, training=False)
        self._judge = tf.function(model.losses_of, input_signature=signature)

    def begin(self, learning_rate: float, *, warmup: int) -> None:
        """Train the encoder from now on too, the head at a higher rate."""
        from towers.finetuning import LayerwiseAdamW

        head = {weight.path for weight in self.model.head_weights}
        optimizer = LayerwiseAdamW(
            learning_rate,
            factor=lambda path: max(1.0, 0.1 * _HEAD_RATE / learning_rate) if path in head else 1.0,
            warmup_steps=warmup,
            weight_decay=_WEIGHT_DECAY,
            without_decay=_WITHOUT_DECAY,
        )
        self._all_step = self._step(optimizer, [*self.model.encoder_weights, *self.model.head_weights], training=True)

    def head_epoch(self, texts: _Texts, epoch: int) -> float:
        return self._over(self._head_step, texts.batches(epoch), "training the head")

    def epoch(self, texts: _Texts, epoch: int, what: str) -> float:
        return self._over(self._all_step, texts.batches(epoch), what)

    def loss(self, texts: _Texts) -> float:
        """Mean loss of a masked token, dropout off, the same masks every time."""
        losses = np.concatenate([self._judge(*batch).numpy() for batch in texts.batches(None)])
        self.counted = len(losses)
        if not self.counted:
            raise BadInput("no word of the held-out texts was masked: hold out more texts.")
        return float(losses.mean())

    def _step(self, optimizer: Any, weights: list[Any], *, training: bool) -> Any:
        from towers.runtime import tf

        optimizer.build(weights)

        def step(tokens: Any, seed: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([weight.value for weight in weights])
                losses = self.model.losses_of(tokens, seed, training=training)
                count = tf.size(losses)
                # A batch of short texts may have no masked word: its loss is 0, and so is its gradient.
                loss = tf.reduce_sum(losses) / tf.cast(tf.maximum(count, 1), tf.float32)
            gradients = tape.gradient(loss, [weight.value for weight in weights])
            gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
            optimizer.apply(gradients, weights)
            return loss, count

        return tf.function(step, input_signature=self._signature)

    @staticmethod
    def _over(step: Any, batches: list[Any], what: str) -> float:
        found = [[each.numpy() for each in step(*batch)] for batch in track(batches, what, len(batches))]
        losses, counts = np.array(found).T
        return float(losses @ counts / max(1, counts.sum()))


def _verify(folder: Path, encoder: Any, max_tokens: int, texts: np.ndarray) -> None:
    """The preset that was written gives the vectors of the encoder in memory."""
    from towers.runtime import tf

    again = load_encoder(Text(preset=str(folder), max_tokens=max_tokens))
    given = tf.constant(list(texts))
    if not np.allclose(again.encode(given).numpy(), encoder.encode(given).numpy(), atol=1e-5):
        raise AssertionError("the preset that was written gives other vectors than the encoder that was trained")
