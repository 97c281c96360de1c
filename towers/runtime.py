"""The one place that configures TensorFlow and Keras. Import both from here.

TensorFlow Recommenders is Keras 2 code; keras-hub and Belfry's models are Keras 3. Both run on one TensorFlow when
`TF_USE_LEGACY_KERAS=1` is set before `tf.keras` is first used: `tf.keras` is then tf-keras (Keras 2), `keras` is
Keras 3 on the TensorFlow backend.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

_ADVICE = (
    "TensorFlow was used before Belfry and with another Keras: restart Python and import `towers` first, "
    "or set the environment variables TF_USE_LEGACY_KERAS=1 and KERAS_BACKEND=tensorflow before you start it."
)

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# What matters comes as a Python exception; at its default TensorFlow reports a missing GPU as an error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Same seed, same metrics: oneDNN's thread-dependent summation order would break it.
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")

with warnings.catch_warnings():
    # Deprecations inside TensorFlow's own imports are not ours to mend.
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow" or issubclass(tf.keras.layers.Layer, keras.layers.Layer):
        raise ImportError(_ADVICE)
    import keras_hub
    import tensorflow_recommenders as tfrs
    import tensorflow_text  # noqa: F401  (registers its ops)

# Its Python side warns of each new model that a process builds as of a function traced too often.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

__all__ = ["import_keras_tuner", "keras", "keras_hub", "limit_threads", "seed_everything", "tf", "tfrs"]


def import_keras_tuner() -> Any:
    """KerasTuner, over the Keras that is configured here; for the few who search."""
    import keras_tuner

    return keras_tuner


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, TensorFlow and Keras, and make every op deterministic: same seed, same metrics.

    Does not make TensorFlow on a GPU repeat what another GPU does.

    Args:
        seed: From 0.

    Example:
        >>> from towers import seed_everything
        >>> from towers.runtime import keras
        >>> def draw():
        ...     seed_everything(7)
        ...     return float(keras.random.normal(()))
        >>> draw() == draw()
        True
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def limit_threads(threads: int) -> None:
    """Use at most `threads` cores for one op and across ops. Only before TensorFlow has run anything.

    Raises:
        RuntimeError: TensorFlow has already started its thread pools.

    Args:
        threads: From 1.

    Example:
        >>> from towers import limit_threads
        >>> from towers.runtime import tf
        >>> x = tf.zeros(1)
        >>> limit_threads(2)  # too late: TensorFlow has begun
        Traceback (most recent call last):
        RuntimeError: Intra op parallelism cannot be modified after initialization.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
