"""What the frozen lower layers of a text encoder make of every article, computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.progress import track

_BATCH = 64
# Tokens of the texts that are encoded at once, so that long and short ones take alike.
_TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class TextStates:
    """Hidden states of N texts end to end, without padding; row 0 is no text.

    The file is read and not mapped: what has been read would otherwise count as this process' memory.

    Attributes:
        path: The file of the states, (T, D) float32.
        width: D.
        begin: (N + 1,) the token at which each row begins.
        lengths: (N + 1,) its tokens.
    """

    path: Path
    width: int
    begin: np.ndarray
    lengths: np.ndarray

    def of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The states of distinct `rows`, shortest first, as the two-tower model takes them."""
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        lengths = self.lengths[rows]
        values = np.empty((lengths.sum(), self.width), np.float32)
        bytes_a_token = values.itemsize * self.width
        start = 0
        with self.path.open("rb", buffering=0) as file:
            for begin, length in zip(self.begin[rows], lengths, strict=True):
                file.seek(int(begin) * bytes_a_token)
                if file.readinto(values[start : start + length].data) != length * bytes_a_token:
                    raise OSError(f"{self.path} is shorter than it was written")
                start += length
        return {"encoded": rows.astype(np.int32), "states": values, "lengths": lengths.astype(np.int32)}

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Distinct `rows` by length, as many at once as make a fair batch."""
        # Of one length, in the order of the file.
        order = rows[np.lexsort((self.begin[rows], self.lengths[rows]))]
        start = 0
        while start < len(order):
            longest = max(1, int(self.lengths[order[min(start + _BATCH, len(order)) - 1]]))
            size = max(8, _TOKENS_AT_ONCE // longest)
            yield order[start : start + size]
            start += size


def without_tokens(given: dict[str, np.ndarray], share: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What `TextStates.of` gave, without a share of the tokens, and again shortest first.

    The first token of a text stays, so that none is left empty. What the frozen layers below made of the others has
    seen the dropped ones; their places are kept, since positions are counted below.
    """
    lengths = given["lengths"]
    text = np.repeat(np.arange(len(lengths)), lengths)
    first = np.r_[True, text[1:] != text[:-1]] if len(text) else np.zeros(0, bool)
    kept = first | (rng.random(len(text)) >= share)
    left = np.bincount(text[kept], minlength=len(lengths))
    order = np.argsort(left, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    tokens = np.argsort(place[text[kept]], kind="stable")
    return {
        "encoded": given["encoded"][order],
        "states": given["states"][kept][tokens],
        "lengths": left[order].astype(np.int32),
    }


def text_states(texts: np.ndarray, encoder: Any, cut: int, folder: Path) -> TextStates:
    """Run the layers below `cut` over (N,) texts; the values are kept in a file in `folder`."""
    from towers.runtime import tf

    lower = encoder.lower(cut)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], reduce_retracing=True)
    def states(text: Any) -> Any:
        tokens = encoder.tokenize(text)
        mask = tokens["padding_mask"]
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1))
        mask = tf.cast(mask[:, :longest], tf.bool)
        found = lower({name: value[:, :longest] for name, value in tokens.items()}, training=False)
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1) * tf.cast(tf.strings.length(text) > 0, tf.int32)
        return tf.boolean_mask(found, mask & (lengths > 0)[:, None]), lengths

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "states.f32"
    order = np.argsort([len(text) for text in texts], kind="stable")
    lengths = np.zeros(len(texts) + 1, np.int64)
    with path.open("wb") as file:
        starts = range(0, len(order), _BATCH)
        for start in track(starts, "encoding texts below the thawed layers", len(starts)):
            rows = order[start : start + _BATCH]
            found, length = states(tf.constant([str(text) for text in texts[rows]]))
            file.write(found.numpy().tobytes())
            lengths[rows + 1] = length.numpy()
    begin = np.zeros(len(texts) + 1, np.int64)
    begin[order + 1] = np.cumsum(lengths[order + 1]) - lengths[order + 1]  # the file is in order of length
    return TextStates(path, encoder.width, begin, lengths)
