"""Text vectors of a catalogue, computed once and kept."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts import atomic_file
from pipelines.errors import BadInput
from pipelines.presets import fingerprint, locate_preset
from pipelines.progress import track
from pipelines.recipe import Text

_BATCH = 64


def cache_folder() -> Path:
    """Where computed vectors are kept: $BELFRY_CACHE, else the user's cache folder."""
    own = os.environ.get("BELFRY_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "belfry"


def load_encoder(text: Text) -> Any:
    """The text encoder that a recipe names.

    Raises:
        BadInput: The preset is unknown, is no text preset, or its hub cannot be reached.
    """
    location = locate_preset(text.preset)
    # The hub's client tells the reader of every attempt that fails; the outcome is told once, below.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from towers.text import TextEncoder

    try:
        return TextEncoder(location, text.max_tokens, pooling=text.pooling)
    except Exception as error:  # keras-hub and the hubs' clients raise many kinds
        if _is_connection_failure(error):
            raise BadInput(
                f"the hub of the text preset {text.preset!r} cannot be reached: name the folder of a downloaded "
                "preset, or `minilm`, which works offline."
            ) from None
        cause = str(error).strip().split("\n")[0].split(". ")[0].rstrip(":.")[:160]
        raise BadInput(
            f"{text.preset!r} is not a text preset that keras-hub can load ({cause}): check features.text.preset in "
            "the recipe and that its hub can be reached; `minilm` works offline."
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


def encode(texts: np.ndarray, encoder: Any, version: str) -> np.ndarray:
    """(N,) texts to (N, T) float32 vectors, computed once per distinct text and kept on disk.

    Texts are encoded in order of length, so that little of the work is padding.

    Args:
        encoder: A `towers.text.TextEncoder`, or a function that loads one if it is needed.
        version: Names the encoder's weights and settings, so that vectors of two are never mixed.
    """
    distinct, place = np.unique(texts.astype(str), return_inverse=True)
    key = hashlib.sha256(f"{version}\n".encode())
    for value in distinct:
        key.update(value.encode("utf-8", "surrogatepass") + b"\0")
    path = cache_folder() / "text" / f"{key.hexdigest()[:32]}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False)[place]
    vectors = _encode(distinct, encoder if hasattr(encoder, "encode") else encoder())
    with atomic_file(path) as draft, draft.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
    return vectors[place]


def _encode(texts: np.ndarray, encoder: Any) -> np.ndarray:
    from towers.runtime import tf

    encode = tf.function(encoder.encode, input_signature=[tf.TensorSpec([None], tf.string)])
    vectors = np.zeros((len(texts), encoder.width), np.float32)
    order = np.argsort([len(value) for value in texts], kind="stable")
    starts = range(0, len(order), _BATCH)
    for start in track(starts, "encoding texts", len(starts)):
        rows = order[start : start + _BATCH]
        vectors[rows] = encode(tf.constant(list(texts[rows]))).numpy()
    if not np.isfinite(vectors).all():
        raise AssertionError("the text encoder returned values that are not finite")
    return vectors
