from __future__ import annotations

import os
import subprocess
import sys


def python(code: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if "KERAS" not in name}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=bare)


def test_both_keras_generations_run_on_one_tensorflow() -> None:
    from towers.runtime import keras, tf, tfrs

    assert not issubclass(tf.keras.layers.Layer, keras.layers.Layer)
    assert keras.__version__.startswith("3.")
    assert keras.backend.backend() == "tensorflow"
    assert issubclass(tfrs.tasks.Retrieval, tf.keras.layers.Layer)


def test_keras_3_used_through_tensorflow_first_is_told_in_one_sentence() -> None:
    found = python("import tensorflow as tf\ntf.keras.layers.Dense(1)\nimport towers.runtime")
    assert found.returncode != 0
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: TensorFlow was used before Belfry")
    assert "restart Python" in last


def test_tensorflow_merely_imported_first_does_no_harm() -> None:
    found = python(
        "import tensorflow as tf\nfrom towers.runtime import keras, tfrs\n"
        "assert issubclass(tfrs.tasks.Retrieval, tf.keras.layers.Layer)\n"
        "assert not issubclass(tf.keras.layers.Layer, keras.layers.Layer)"
    )
    assert found.returncode == 0, found.stderr


def test_a_seed_makes_runs_equal() -> None:
    from towers.runtime import keras, seed_everything

    drawn = []
    for _ in range(2):
        seed_everything(3)
        drawn.append(keras.random.normal((4,)).numpy().tolist())
    assert drawn[0] == drawn[1]
