"""Text vectors of a catalogue, computed once and kept."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipelines.data.catalogue import Catalogue
from pipelines.errors import BadInput
from pipelines.presets import fingerprint, locate_preset
from pipelines.progress import track
from pipelines.recipe import Text
from pipelines.vector_cache import kept_vectors, key_of

_BATCH = 64


def load_encoder(text: Text) -> Any:
    """The text encoder that a recipe names.

    Raises:
        BadInput: The preset is unknown, is no text preset, or its hub cannot be reached.
    """

    def load(location: str) -> Any:
        from towers.text import TextEncoder

        return TextEncoder(location, text.max_tokens, pooling=text.pooling)

    return load_preset(text.preset, "text", load)


def load_preset(preset: str, kind: str, load: Callable[[str], Any]) -> Any:
    """What `load` makes of the preset's folder or name on a hub.

    Raises:
        BadInput: It cannot; the sentence says why and what to do.
    """
    location = locate_preset(preset)
    # The hub's client tells the reader of every attempt that fails; the outcome is told once, below.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    offline = ", or `minilm`, which works offline" if kind == "text" else ""
    try:
        return load(location)
    except Exception as error:  # keras-hub and the hubs' clients raise many kinds
        if _is_connection_failure(error):
            raise BadInput(
                f"the hub of the {kind} preset {preset!r} cannot be reached: name the folder of a downloaded "
                f"preset{offline}."
            ) from None
        cause = str(error).strip().split("\n")[0].split(". ")[0].rstrip(":.")[:160]
        raise BadInput(
            f"{preset!r} is no {kind} preset that keras-hub can load ({cause}): check features.{kind}.preset in "
            f"the recipe and that its hub can be reached{offline.replace(', or', ';')}."
        ) from None


def _is_connection_failure(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            return True
        # requests, httpx and the hub's client have classes of their own, which need not be installed.
        if type(error).__name__ in {"ConnectionError", "ConnectError", "ConnectTimeout", "LocalEntryNotFoundError"}:
            return True
        error = error.__cause__ or error.__context__
    return False


def text_vectors(texts: np.ndarray, text: Text) -> np.ndarray:
    """(N,) texts to (N, T) float32 vectors by the frozen encoder; computed once per distinct text and kept on disk."""
    return encode(
        texts, lambda: load_encoder(text), f"{fingerprint(locate_preset(text.preset))} {text.max_tokens} {text.pooling}"
    )


def item_vectors(catalogue: Catalogue, text: Text, encoder: Any = None, version: str = "") -> np.ndarray:
    """(N, F * T) float32 text vectors of a catalogue's items; the same rule as `towers.text.encode_fields`.

    Args:
        encoder, version: As `encode` takes them; the recipe's preset as it is by default.
    """
    vectors = [
        text_vectors(texts, text) if encoder is None else encode(texts, encoder, version)
        for texts in catalogue.texts(text.fields)
    ]
    if len(vectors) == 1:
        return vectors[0]
    from towers.runtime import tf
    from towers.text import join_vectors

    return join_vectors(*(tf.constant(each) for each in vectors)).numpy()


def encode(texts: np.ndarray, encoder: Any, version: str) -> np.ndarray:
    """(N,) texts to (N, T) float32 vectors, computed once per distinct text and kept on disk.

    Args:
        encoder: A `towers.text.TextEncoder`, or a function that loads one if it is needed.
        version: Names the encoder's weights and settings, so that vectors of two are never mixed.
    """
    # As objects: an array of str would make room for every text at the length of the longest.
    distinct, place = np.unique(texts.astype(object), return_inverse=True)
    keys = [key_of(value.encode("utf-8", "surrogatepass")) for value in distinct]

    def make(missing: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        loaded = encoder if hasattr(encoder, "encode") else encoder()
        return _encode(distinct, missing, loaded)

    found = kept_vectors("text", version, keys, make)
    return np.stack([found[key] for key in keys])[place] if keys else np.zeros((0, _width(encoder)), np.float32)


def _width(encoder: Any) -> int:
    return (encoder if hasattr(encoder, "encode") else encoder()).width


def _encode(texts: np.ndarray, places: np.ndarray, encoder: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Vectors of the texts at `places`, a batch at a time, in order of length, so that little work is padding."""
    from towers.runtime import tf

    encode = tf.function(encoder.encode, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    order = places[np.argsort([len(texts[place]) for place in places], kind="stable")]
    starts = range(0, len(order), _BATCH)
    for start in track(starts, "encoding texts", len(starts)):
        rows = order[start : start + _BATCH]
        yield rows, encode(tf.constant(list(texts[rows]))).numpy()
